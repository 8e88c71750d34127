//! Uploads of functions: a form with a manifest and a component, read under the host's limits, and how its deployment
//! goes on.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest as _, Multipart, multipart::Field},
    http::{Request, StatusCode, header},
    response::IntoResponse as _,
};
use serde::Deserialize;

use super::{
    functions::Name,
    handle::Head,
    incoming,
    orders::{Answer, Asks, document},
    problem::Problem,
};
use crate::{
    account::{Account, Charge, ChargedBytes, Holder, Kind, OverLimit},
    function::{Upload, UploadError},
};

/// The largest `function.toml`, as for folders.
const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// A digest in hexadecimal, with some room to say that it is none.
const MAX_DIGEST_BYTES: usize = 256;
/// What one upload may take: 64 MiB over some 5 Mbit/s.
const UPLOAD_TIME: Duration = Duration::from_secs(120);
/// What a form adds to what it carries.
pub(super) const FORM_BYTES: usize = MAX_MANIFEST_BYTES + (64 << 10);

/// What a form carried, with what it is charged to.
#[derive(Default)]
struct Form {
    manifest: Option<(String, Charge)>,
    component: Option<(Bytes, Charge)>,
    digest: Option<String>,
}

/// What is to be deployed, likewise.
type Content = ((String, Charge), (Bytes, Charge));

/// Takes an upload into the line of deployments.
pub(super) async fn begin(asks: Asks<Name>, request: Request<Body>) -> Answer {
    let (control, head) = (&asks.control, &asks.head);
    let query = incoming::query(request.uri().query().unwrap_or_default());
    let asked = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let promote = match asked("promote").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(asks.problem("bad-request", "promote must be true or false")),
    };
    let Ok(_reads) = control.uploads.try_acquire() else {
        return Err(refusal(&UploadError::Busy, head));
    };
    let (Name { tenant, function }, author) = (asks.names.clone(), asks.author(asked("why")));
    let account = control.deployments.account(&tenant, &function).map_err(|error| refusal(&error, head))?;
    let read = read(request, (control.max_component_bytes, &account), head);
    let read = tokio::time::timeout(UPLOAD_TIME, read).await;
    let slow = |_| asks.problem("body-timeout", format!("the upload took over {} s", UPLOAD_TIME.as_secs()));
    let ((manifest, text), (component, code)) = read.map_err(slow)??;
    let upload = Upload { tenant, function, manifest, component, charges: [text, code], promote, author };
    let begun = control.deployments.begin(upload).map_err(|error| refusal(&error, head))?;
    let place = format!("/admin/v1/functions/{}/{}/deployments/{}", begun.tenant, begun.function, begun.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], Json(begun)).into_response())
}

fn problem(code: &str, detail: impl Into<String>, head: &Head) -> Box<Problem> {
    Box::new(Problem::new(code, detail, &head.id))
}

fn refusal(error: &UploadError, head: &Head) -> Box<Problem> {
    let code = match error {
        UploadError::Busy => "deploy-busy",
        UploadError::Memory(over) if over.holder == Holder::Host => "host-memory",
        UploadError::Memory(_) => "tenant-memory",
        UploadError::Stopping => "draining",
        UploadError::Name(_) => "invalid",
    };
    let mut problem = Problem::new(code, error.to_string(), &head.id);
    if matches!(error, UploadError::Busy | UploadError::Memory(_) | UploadError::Stopping) {
        problem.comes_again();
    }
    Box::new(problem)
}

/// Reads the form; whatever is in it twice, or unknown, is refused.
async fn read(
    request: Request<Body>,
    (max_component_bytes, account): (usize, &Arc<Account>),
    head: &Head,
) -> Result<Content, Box<Problem>> {
    let bad = |detail: String| problem("bad-request", detail, head);
    let announced = http_body::Body::size_hint(request.body()).upper();
    let announced = announced.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|rejection| bad(format!("multipart/form-data is wanted: {rejection}")))?;
    let mut read = Form::default();
    loop {
        let field = form.next_field().await.map_err(|error| bad(format!("the form: {}", error.body_text())))?;
        let Some(field) = field else { break };
        let name = field.name().unwrap_or_default().to_owned();
        let (limit, taken) = match &*name {
            "manifest" => (MAX_MANIFEST_BYTES, read.manifest.is_some()),
            "component" => (max_component_bytes, read.component.is_some()),
            "digest" => (MAX_DIGEST_BYTES, read.digest.is_some()),
            other => {
                let other: String = other.chars().take(MAX_DIGEST_BYTES).collect();
                return Err(bad(format!("the form has a field `{other}`; there are manifest, component and digest")));
            }
        };
        if taken {
            return Err(bad(format!("the form has {name} twice")));
        }
        let (bytes, charge) = whole(field, (&name, limit, announced), account, head).await?;
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|_| bad(format!("{name} is not UTF-8")));
        match &*name {
            "manifest" => read.manifest = Some((text(bytes)?, charge)),
            "digest" => read.digest = Some(text(bytes)?),
            _ => read.component = Some((bytes, charge)),
        }
    }
    let missing = |name: &str| bad(format!("the form has no field `{name}`"));
    let manifest = read.manifest.ok_or_else(|| missing("manifest"))?;
    let component = read.component.ok_or_else(|| missing("component"))?;
    if let Some(said) = read.digest {
        is_what_it_said(component.0.clone(), said.trim(), head).await?;
    }
    Ok((manifest, component))
}

/// All of a field, charged as it comes; `announced` is how long the whole form is said to be.
async fn whole(
    mut field: Field<'_>,
    (name, limit, announced): (&str, usize, usize),
    account: &Arc<Account>,
    head: &Head,
) -> Result<(Bytes, Charge), Box<Problem>> {
    let over = |over: OverLimit| refusal(&over.into(), head);
    let mut bytes = ChargedBytes::new(account.charge(Kind::Request, 0).map_err(over)?);
    let broken = |detail: String| problem("bad-request", format!("{name}: {detail}"), head);
    while let Some(piece) = field.chunk().await.map_err(|error| broken(error.body_text()))? {
        if bytes.len() + piece.len() > limit {
            return Err(problem("body-too-large", format!("{name} has more than {limit} bytes"), head));
        }
        bytes.extend(&piece, limit.min(announced)).map_err(over)?;
    }
    Ok(bytes.finish())
}

/// Holds a component against its announced digest; off the reactor, because hashing it takes tens of milliseconds.
async fn is_what_it_said(component: Bytes, said: &str, head: &Head) -> Result<(), Box<Problem>> {
    let hashed = tokio::task::spawn_blocking(move || blake3::hash(&component).to_hex()).await;
    let is = hashed.map_err(|_| problem("internal", "the log tells more, under this request's id", head))?;
    if said.trim_start_matches("blake3:").eq_ignore_ascii_case(&is) {
        return Ok(());
    }
    Err(problem("digest-mismatch", format!("the component's BLAKE3 is {is}, and the form says {said}"), head))
}

/// A deployment in a path.
#[derive(Deserialize)]
pub(super) struct Begun {
    tenant: String,
    function: String,
    id: String,
}

/// How a deployment goes on.
pub(super) async fn progress(asks: Asks<Begun>) -> Answer {
    let Begun { tenant, function, id } = &asks.names;
    let detail = "this host knows no such deployment: it tells of those of the last hour that it took itself";
    let found = asks.control.deployments.find(tenant, function, id);
    document(&found.ok_or_else(|| asks.problem("deployment-not-found", detail))?)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::{self, StreamExt as _};

    use super::*;
    use crate::telemetry::TraceContext;

    const MAX_COMPONENT_BYTES: usize = 4000;

    fn field(name: &str, content: &str) -> String {
        format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    /// A form that comes in these pieces and perhaps never ends, on its way.
    fn request(pieces: &[String], ends: bool) -> Request<Body> {
        let pieces = stream::iter(pieces.to_vec()).map(Ok::<_, Infallible>);
        let body = match ends {
            true => Body::from_stream(pieces),
            false => Body::from_stream(pieces.chain(stream::pending())),
        };
        Request::post("/").header("content-type", "multipart/form-data; boundary=b").body(body).unwrap()
    }

    fn head() -> Head {
        Head { id: "1".into(), arrived: std::time::Instant::now(), trace: TraceContext::default() }
    }

    async fn form(account: &Arc<Account>, pieces: &[String]) -> Result<Content, u16> {
        let read = read(request(pieces, true), (MAX_COMPONENT_BYTES, account), &head()).await;
        read.map_err(|problem| problem.status())
    }

    #[tokio::test]
    async fn a_form_is_charged_while_it_comes_and_for_as_long_as_it_is_held() {
        let account = Account::host(3000);
        let begins = [field("manifest", "m"), field("component", &"c".repeat(1000)).trim_end().to_owned()];
        let head = head();
        let mut slow = Box::pin(read(request(&begins, false), (MAX_COMPONENT_BYTES, &account), &head));
        assert!(futures_util::poll!(&mut slow).is_pending());
        // The parser keeps some of it back, as it may be the beginning of a boundary.
        assert!((900..=1100).contains(&account.held_bytes()), "{}", account.held_bytes());
        drop(slow);
        assert_eq!(account.held_bytes(), 0);
        let whole = [begins[0].clone(), field("component", &"c".repeat(1000)), "--b--\r\n".to_owned()];
        let ((manifest, _text), (component, _code)) = form(&account, &whole).await.unwrap();
        assert_eq!((&manifest[..], component.len(), account.held_bytes()), ("m", 1000, 1001));
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_before_it_is_there() {
        let end = || "--b--\r\n".to_owned();
        let piece = |length| [field("manifest", "m"), field("component", &"c".repeat(length)), end()];
        let host = Account::host(3000);
        assert_eq!(form(&host, &piece(MAX_COMPONENT_BYTES + 1)).await.err(), Some(413));
        assert_eq!(form(&host, &piece(3000)).await.err(), Some(503), "the host's memory");
        let tenant = host.child(Holder::Tenant, 2000);
        assert_eq!(form(&tenant, &piece(2000)).await.err(), Some(429), "the tenant's memory");
        let digest = |said: &str| [field("digest", said), field("manifest", "m"), field("component", "c"), end()];
        assert_eq!(form(&host, &digest("blake3:0")).await.err(), Some(422));
        assert!(form(&host, &digest(&blake3::hash(b"c").to_hex())).await.is_ok());
        assert_eq!((host.held_bytes(), tenant.held_bytes()), (0, 0));
    }
}
