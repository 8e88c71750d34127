//! Uploads of functions: a form with a manifest and a component, read under the host's limits, and how its deployment
//! goes on.

use std::time::Duration;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest as _, Multipart},
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
use crate::function::{Upload, UploadError};

/// The largest `function.toml`, as for folders.
const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// A digest in hexadecimal, with some room to say that it is none.
const MAX_DIGEST_BYTES: usize = 256;
/// What one upload may take: 64 MiB over some 5 Mbit/s.
const UPLOAD_TIME: Duration = Duration::from_secs(120);
/// What a form adds to what it carries.
pub(super) const FORM_BYTES: usize = MAX_MANIFEST_BYTES + (64 << 10);

/// What a form carried.
#[derive(Default)]
struct Form {
    manifest: Option<String>,
    component: Option<Bytes>,
    digest: Option<String>,
}

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
    let read = read(request, control.max_component_bytes, head);
    let read = tokio::time::timeout(UPLOAD_TIME, read).await;
    let slow = |_| asks.problem("body-timeout", format!("the upload took over {} s", UPLOAD_TIME.as_secs()));
    let (manifest, component) = read.map_err(slow)??;
    let (Name { tenant, function }, author) = (asks.names.clone(), asks.author(asked("why")));
    let upload = Upload { tenant, function, manifest, component, promote, author };
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
    max_component_bytes: usize,
    head: &Head,
) -> Result<(String, Bytes), Box<Problem>> {
    let bad = |detail: String| problem("bad-request", detail, head);
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|rejection| bad(format!("multipart/form-data is wanted: {rejection}")))?;
    let mut read = Form::default();
    loop {
        let field = form.next_field().await.map_err(|error| bad(format!("the form: {}", error.body_text())))?;
        let Some(mut field) = field else { break };
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
        let mut bytes = Vec::new();
        while let Some(piece) = field.chunk().await.map_err(|error| bad(format!("{name}: {}", error.body_text())))? {
            if bytes.len() + piece.len() > limit {
                return Err(problem("body-too-large", format!("{name} has more than {limit} bytes"), head));
            }
            bytes.extend_from_slice(&piece);
        }
        let text = |bytes| String::from_utf8(bytes).map_err(|_| bad(format!("{name} is not UTF-8")));
        match &*name {
            "manifest" => read.manifest = Some(text(bytes)?),
            "digest" => read.digest = Some(text(bytes)?),
            _ => {
                bytes.shrink_to_fit();
                read.component = Some(bytes.into());
            }
        }
    }
    let missing = |name: &str| bad(format!("the form has no field `{name}`"));
    let manifest = read.manifest.ok_or_else(|| missing("manifest"))?;
    let component = read.component.ok_or_else(|| missing("component"))?;
    let is = blake3::hash(&component).to_hex();
    if let Some(said) = read.digest.filter(|said| !said.trim().trim_start_matches("blake3:").eq_ignore_ascii_case(&is))
    {
        let detail = format!("the component's BLAKE3 is {is}, and the form says {}", said.trim());
        return Err(problem("digest-mismatch", detail, head));
    }
    Ok((manifest, component))
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
