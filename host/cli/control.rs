//! The control plane, for commands that operators and tenants use: where it is, and the word that it asks for.
//!
//! It finds the host's token where the host keeps it, or the caller's key in the environment, and sends either nowhere
//! else; it does not know what is asked, nor prints it.

use std::env;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use ureq::http::{HeaderValue, Method, header};

use crate::client::{Answer, Host, Question};
use crate::failure::{Exit, Failure};
use crate::key::{self, KEY_VARIABLE};
use crate::problem::failure_of;

/// Where a host's control plane listens when nothing else is said.
pub(crate) const DEFAULT_CONTROL: &str = "127.0.0.1:8081";
/// The token, where it is in no file of this machine. A secret comes from the environment or a file, never from a flag,
/// which everybody on the machine can read.
const TOKEN_VARIABLE: &str = "TENON_ADMIN_TOKEN";
/// The file in the data folder that a host makes at its first start.
const TOKEN_FILE: &str = "admin-token";

/// Flags of every command that asks the control plane.
#[derive(Args, Debug)]
pub(crate) struct ControlFlags {
    /// The host's control plane
    #[arg(long, global = true, env = "TENON_CONTROL", value_name = "URL", default_value = DEFAULT_CONTROL, value_parser = Host::parse)]
    control: Host,
    /// The host's data folder, where its token is; without that, the token is taken from TENON_ADMIN_TOKEN
    #[arg(long, global = true, env = "TENON_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
}

/// A host's control plane and the right to ask it.
pub(crate) struct Control {
    host: Host,
    bearer: HeaderValue,
    /// The variable that the bearer came from, or could have.
    whence: &'static str,
}

impl ControlFlags {
    /// The control plane with the host's own token, believed on the same word as `data`, the host's other plane.
    pub(crate) fn open(&self, data: &Host) -> Result<Control, Failure> {
        self.control_of(data, &self.token()?, TOKEN_VARIABLE)
    }

    /// The control plane with the caller's own key, where there is one; else as the host's operator.
    pub(crate) fn open_with_key(&self, data: &Host) -> Result<Control, Failure> {
        match key::given()? {
            Some(key) => self.control_of(data, &key, KEY_VARIABLE),
            None => self.open(data),
        }
    }

    fn token(&self) -> Result<String, Failure> {
        match env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.trim().is_empty() => Ok(token),
            _ => read(&self.data.join(TOKEN_FILE)),
        }
    }

    fn control_of(&self, data: &Host, word: &str, whence: &'static str) -> Result<Control, Failure> {
        let host = self.control.clone().trusting(data.trust().clone());
        Ok(Control { host, bearer: key::bearer(word)?, whence })
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|error| {
        Failure::new(Exit::Environment, format!("no token for the control plane: {}: {error}", file.display()))
            .hint(format!(
                "give a key in {KEY_VARIABLE}, name the host's data folder with --data, or give its token in {TOKEN_VARIABLE}"
            ))
    })
}

impl Control {
    /// The address.
    pub(crate) fn base(&self) -> &str {
        self.host.base()
    }

    /// Asks with the token; whatever is not a good answer is a failure.
    pub(crate) fn ask(&self, question: Question) -> Result<Answer, Failure> {
        let answer = self.host.ask(self.signed(question))?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    /// Asks, for whom not every refusal is the end; what it would be for everybody else comes with it.
    pub(crate) fn try_ask(&self, question: Question) -> Result<(Answer, Option<Failure>), Failure> {
        let answer = self.host.ask(self.signed(question))?;
        let refused = (!answer.status.is_success()).then(|| self.refused(&answer));
        Ok((answer, refused))
    }

    /// Asks for what comes in pieces, for as long as it comes.
    pub(crate) fn stream(&self, question: Question) -> Result<impl BufRead + use<>, Failure> {
        self.host.stream(self.signed(question))?.map_err(|answer| self.refused(&answer))
    }

    fn signed(&self, mut question: Question) -> Question {
        question.headers.push((header::AUTHORIZATION, self.bearer.clone()));
        question
    }

    fn refused(&self, answer: &Answer) -> Failure {
        let failure = failure_of(answer);
        match (answer.status.as_u16(), self.whence) {
            (401, KEY_VARIABLE) => failure.hint(format!(
                "the key in {KEY_VARIABLE} is not one of this host, or has ended: see --control, or make one with `tenon keys`"
            )),
            (401, _) => failure.hint(format!("this is another host's token: see --control, --data and {TOKEN_VARIABLE}")),
            (404, _) if answer.is_json() && failure.message.starts_with("404 Not Found") => {
                failure.hint("this host may be older than this program: `tenon doctor` tells both versions")
            }
            _ => failure,
        }
    }

    /// Fetches a JSON document.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json(Question::get(path))
    }

    /// Asks, and reads the answer as JSON.
    pub(crate) fn json(&self, question: Question) -> Result<Value, Failure> {
        let answer = self.ask(question)?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            Failure::new(Exit::Environment, format!("{} answered what is no JSON: {error}", self.base()))
                .hint("give the control plane's address with --control or TENON_CONTROL")
        })
    }
}

/// A POST of a JSON document.
pub(crate) fn post(path: &str, body: &Value) -> Question {
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = body.to_string().into_bytes();
    Question { method: Method::POST, headers: vec![json], body, ..Question::get(path) }
}

/// A PUT of a JSON document.
pub(crate) fn put(path: &str, body: &Value) -> Question {
    Question { method: Method::PUT, ..post(path, body) }
}

/// A DELETE.
pub(crate) fn delete(path: &str) -> Question {
    Question { method: Method::DELETE, ..Question::get(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_there_is_said_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(&folder.path().join(TOKEN_FILE)).unwrap_err();
        assert_eq!(missing.exit, Exit::Environment);
        assert!(missing.message.contains("admin-token") && missing.hint.unwrap().contains("--data"));
        fs::write(folder.path().join(TOKEN_FILE), "tenon_admin_0\n").unwrap();
        assert_eq!(read(&folder.path().join(TOKEN_FILE)).unwrap(), "tenon_admin_0\n");
    }

    #[test]
    fn a_post_carries_its_document() {
        let question = post("/x", &serde_json::json!({ "version": 2 }));
        assert_eq!((question.method, &question.body[..]), (Method::POST, &br#"{"version":2}"#[..]));
    }
}
