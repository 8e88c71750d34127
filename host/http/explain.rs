//! What an operator may say when asking why a model batches as it does. Owns the query; what is answered is the engine's.

use axum::{Json, body::Body, http::Response, response::IntoResponse as _};

use super::problem::Problem;
use crate::function::Runtime;

/// The explanation of a model, or why there is none.
pub(super) fn answer(runtime: &Runtime, model: &str, query: Option<&str>, id: &str) -> Response<Body> {
    let version = match version(query) {
        Ok(version) => version,
        Err(detail) => return Problem::new("bad-request", detail, id).into_response(),
    };
    match runtime.explain(model, version) {
        Ok(explanation) => Json(explanation).into_response(),
        Err(error) => Problem::of_model(&error, id).into_response(),
    }
}

/// The version of `?version=3`; anything else is a mistake worth telling, not a thing to pass over.
fn version(query: Option<&str>) -> Result<Option<u64>, String> {
    let mut version = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let Some(("version", text)) = pair.split_once('=') else {
            return Err(format!("`{pair}` is not known here: there is only `version=<number>`"));
        };
        // Versions have one spelling, as in the repository.
        let read = text.parse().ok().filter(|number: &u64| *number > 0 && number.to_string() == text);
        version =
            Some(read.ok_or_else(|| format!("`version={text}`: versions are numbers from 1 on, such as `version=3`"))?);
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_version_is_a_number_and_there_is_nothing_else() {
        assert_eq!(version(None), Ok(None));
        assert_eq!(version(Some("")), Ok(None));
        assert_eq!(version(Some("version=12")), Ok(Some(12)));
        for (bad, part) in [
            ("version=x", "`version=x`"),
            ("version=01", "from 1 on"),
            ("v=1", "`v=1` is not known"),
            ("version", "only"),
        ] {
            assert!(version(Some(bad)).unwrap_err().contains(part), "{bad}");
        }
    }
}
