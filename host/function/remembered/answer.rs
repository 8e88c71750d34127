//! An answer as it is remembered and shared: what the plugin said, without whose it was. Owns its form in an entry, a
//! line of JSON and the body after it, which is never copied when it is read.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::super::InvokeError;
use crate::{
    account::{Account, Kind},
    invocation::{Rejection, Response},
};

/// Bytes of the head's length.
const LENGTH: usize = size_of::<u32>();

/// Everything but the body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    status: u16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    /// None for a refusal that has no body of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// Of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<Refused>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    code: String,
    detail: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
}

/// What a plugin said: a response, or a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::function) struct Answer {
    head: Head,
    body: Bytes,
}

impl Answer {
    /// What a plugin responded.
    pub(in crate::function) fn response(response: &Response) -> Self {
        let Response { status, content_type, headers, body, charge: _ } = response;
        let head =
            Head { status: *status, headers: headers.clone(), content_type: Some(content_type.clone()), refused: None };
        Self { head, body: body.clone() }
    }

    /// How it refused.
    pub(in crate::function) fn rejection(rejection: &Rejection) -> Self {
        let Rejection { status, code, detail, pointer, headers, body, charge: _ } = rejection;
        let refused = Refused { code: code.clone(), detail: detail.clone(), pointer: pointer.clone() };
        let (content_type, body) = body.clone().unzip();
        let head = Head { status: *status, headers: headers.clone(), content_type, refused: Some(refused) };
        Self { head, body: body.unwrap_or_default() }
    }

    /// Whether it is a refusal.
    pub(in crate::function) fn is_refusal(&self) -> bool {
        self.head.refused.is_some()
    }

    /// Its form in an entry.
    pub(in crate::function) fn encode(&self) -> Bytes {
        // A tree of text and numbers: nothing in it can fail to be written.
        let head = serde_json::to_vec(&self.head).unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(LENGTH + head.len() + self.body.len());
        bytes.put_u32_le(u32::try_from(head.len()).unwrap_or(u32::MAX));
        bytes.put_slice(&head);
        bytes.put_slice(&self.body);
        bytes.freeze()
    }

    /// Reads it; none where the bytes are no answer that a plugin may give.
    pub(in crate::function) fn decode(mut bytes: Bytes) -> Option<Self> {
        let length = bytes.get(..LENGTH)?.try_into().map(u32::from_le_bytes).ok()? as usize;
        let head: Head = serde_json::from_slice(bytes.get(LENGTH..LENGTH.checked_add(length)?)?).ok()?;
        let allowed = if head.refused.is_some() { 400..500 } else { 200..300 };
        let body = bytes.split_off(LENGTH + length);
        allowed.contains(&head.status).then_some(Self { head, body })
    }

    /// The answer for one more caller, charged to its account.
    pub(in crate::function) fn give(&self, account: &Arc<Account>) -> Result<Response, InvokeError> {
        let Head { status, headers, content_type, refused } = self.head.clone();
        if let Some(Refused { code, detail, pointer }) = refused {
            let body = content_type.map(|content_type| (content_type, self.body.clone()));
            let mut rejection = Rejection { status, code, detail, pointer, headers, body, charge: None };
            rejection.charge = Some(account.charge(Kind::Response, rejection.bytes())?);
            return Err(InvokeError::Rejected(Box::new(rejection)));
        }
        let text = headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let charge = account.charge(Kind::Response, (self.body.len() + text) as u64)?;
        let (content_type, body) = (content_type.unwrap_or_default(), self.body.clone());
        Ok(Response { status, content_type, headers, body, charge: Some(charge) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> Response {
        let headers = vec![("x-a".into(), "1".into()), ("x-a".into(), "2".into())];
        let body = Bytes::from_static(b"{\"a\":1}");
        Response { status: 201, content_type: "application/json".into(), headers, body, charge: None }
    }

    fn rejection(body: Option<(String, Bytes)>) -> Rejection {
        let (code, detail, pointer) = ("too-long".into(), "it is".into(), Some("/a".into()));
        Rejection { status: 422, code, detail, pointer, headers: vec![], body, charge: None }
    }

    #[test]
    fn what_is_read_is_what_was_said() {
        let account = Account::host(1 << 20);
        for answer in [Answer::response(&response()), Answer::rejection(&rejection(None))] {
            assert_eq!(Answer::decode(answer.encode()), Some(answer));
        }
        let given = Answer::response(&response()).give(&account).unwrap();
        assert_eq!((given.status, given.headers, given.body), (201, response().headers, response().body));
        assert!(account.held_bytes() == 0 || given.charge.is_some());
        let own = Some(("text/plain".into(), Bytes::from_static(b"no")));
        match Answer::decode(Answer::rejection(&rejection(own.clone())).encode()).unwrap().give(&account) {
            Err(InvokeError::Rejected(said)) => assert_eq!((said.status, said.body), (422, own)),
            other => panic!("{other:?}"),
        }
        drop(given.charge);
        let small = Account::host(1);
        assert!(matches!(Answer::response(&response()).give(&small), Err(InvokeError::Memory(_))));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let whole = Answer::response(&response()).encode();
        for end in 0..whole.len() - response().body.len() {
            assert_eq!(Answer::decode(whole.slice(..end)), None, "{end}");
        }
        let with = |head: &str| [&(head.len() as u32).to_le_bytes()[..], head.as_bytes()].concat();
        for head in ["{}", "{\"status\":500}", "{\"status\":404}", "{\"status\":200,\"x\":1}", "[]"] {
            assert_eq!(Answer::decode(with(head).into()), None, "{head}");
        }
        assert_eq!(Answer::decode(vec![0xff; 9].into()), None);
    }
}
