//! `response`: an answer being written. By hand, so that each `write` is one copy from guest memory.

use bytes::BytesMut;
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource, ResourceType, WasmList},
};

use super::{failure, headers, memory};
use crate::{
    account::Charge,
    invocation::Response,
    sandbox::{bindings::types::Failure, compiler::VERSION, store::Guest},
};

/// An answer that the guest has not given yet.
pub struct Draft {
    status: u16,
    content_type: String,
    headers: Vec<(String, String)>,
    body: BytesMut,
    charge: Option<Charge>,
}

impl Draft {
    /// The answer, or what about it breaks the contract.
    pub(in crate::sandbox) fn finish(self) -> std::result::Result<Response, String> {
        let Self { status, content_type, headers, body, charge } = self;
        if !(200..300).contains(&status) {
            return Err(format!("a response has a status of 200 to 299, not {status}; refusals are rejections"));
        }
        headers::check("content-type", &content_type)?;
        Ok(Response { status, content_type, headers, body: body.freeze(), charge })
    }
}

type Store<'a> = StoreContextMut<'a, Guest>;

/// Registers the interface.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut instance = linker.instance(&format!("tenon:plugin/response@{VERSION}"))?;
    instance.resource("response", ResourceType::host::<Draft>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Draft>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[constructor]response", |mut store: Store<'_>, (status, content_type): (u16, String)| {
        let draft = Draft { status, content_type, headers: Vec::new(), body: BytesMut::new(), charge: None };
        Ok((store.data_mut().table.push(draft)?,))
    })?;
    instance.func_wrap(
        "[method]response.header",
        |mut store: Store<'_>, (this, name, value): (Resource<Draft>, String, String)| {
            let draft = store.data_mut().table.get_mut(&this)?;
            Ok((add_header(draft, name, value),))
        },
    )?;
    instance
        .func_wrap("[method]response.write", |mut store: Store<'_>, (this, data): (Resource<Draft>, WasmList<u8>)| {
            Ok((write(&mut store, &this, &data)?,))
        })
}

fn add_header(draft: &mut Draft, name: String, value: String) -> std::result::Result<(), Failure> {
    if draft.headers.len() >= headers::MAX_HEADERS {
        return Err(failure("invalid-header", format!("at most {} headers", headers::MAX_HEADERS)));
    }
    if name.eq_ignore_ascii_case("content-type") {
        return Err(failure("invalid-header", "the content type is given to the constructor"));
    }
    headers::check(&name, &value).map_err(|detail| failure("invalid-header", detail))?;
    draft.headers.push((name.to_ascii_lowercase(), value));
    Ok(())
}

/// Charges, then copies. The list borrows the store, so the draft's buffer leaves the table while it grows.
fn write(
    store: &mut Store<'_>,
    this: &Resource<Draft>,
    data: &WasmList<u8>,
) -> Result<std::result::Result<(), Failure>> {
    let source = data.as_le_slice(&*store).len() as u64;
    let draft = store.data_mut().table.get_mut(this)?;
    let (mut body, charge) = (std::mem::take(&mut draft.body), draft.charge.take());
    let charged = match charge {
        Some(mut charge) => match charge.grow(source) {
            Ok(()) => (Some(charge), Ok(())),
            Err(over) => (Some(charge), Err(store.data_mut().limits.refuse(over))),
        },
        None => match store.data_mut().limits.charge(source) {
            Ok(charge) => (Some(charge), Ok(())),
            Err(holder) => (None, Err(holder)),
        },
    };
    if charged.1.is_ok() {
        body.extend_from_slice(data.as_le_slice(&*store));
    }
    let draft = store.data_mut().table.get_mut(this)?;
    (draft.body, draft.charge) = (body, charged.0);
    Ok(charged.1.map_err(memory))
}
