//! Orders as they stand in the query.

use std::str::FromStr;

use tenon_sdk::{Rejection, Request};

/// The value of a name in the query.
pub(crate) fn value(request: &Request, name: &str) -> Option<String> {
    request.query().into_iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value)
}

/// The number under a name in the query, or a default where it is not there.
pub(crate) fn number<T: FromStr>(request: &Request, name: &str, default: T) -> Result<T, Rejection> {
    match value(request, name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| unreadable(name, &text)),
    }
}

/// Rows of whole numbers: `1,2,3;4,5`. An empty row is an empty text between semicolons.
pub(crate) fn rows(request: &Request) -> Result<Vec<Vec<i64>>, Rejection> {
    let text = value(request, "values").unwrap_or_default();
    let row = |row: &str| -> Result<Vec<i64>, Rejection> {
        let numbers = row.split(',').filter(|number| !number.is_empty());
        numbers.map(|number| number.parse().map_err(|_| unreadable("values", &text))).collect()
    };
    text.split(';').map(row).collect()
}

/// The rejection that `/reject` orders.
pub(crate) fn rejection(request: &Request) -> Result<Rejection, Rejection> {
    let code = value(request, "code").unwrap_or_else(|| "as-ordered".to_owned());
    let mut rejection = Rejection::new(number(request, "status", 400)?, &code, "the probe was told to reject")
        .header("x-probe", "rejected");
    rejection.pointer = value(request, "pointer");
    match value(request, "body") {
        Some(body) => Ok(rejection.with_body("text/plain", body)),
        None => Ok(rejection),
    }
}

fn unreadable(name: &str, text: &str) -> Rejection {
    Rejection::bad_request("bad-order", format!("`{name}={text}` in the query is not a number"))
}
