//! What a caller wants embedded, and each way in which it can be wrong.
//!
//! Owns the two services' members, and the codes: 400 where a body cannot be read, and what
//! either service says where it can, each with a pointer to the place. Refuses to know models.
//! Unknown members are ignored: clients of compatible servers send each other's.

use serde_json::Value;
use tenon_sdk::json::{self, Place};
use tenon_sdk::{Rejection, Request, setting};

/// What an input may be at most, and what the model is: `[config]` in `function.toml`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) inputs: usize,
    pub(crate) text_bytes: usize,
    pub(crate) tokens: u32,
    pub(crate) vocabulary: u32,
    pub(crate) dimensions: u32,
    pub(crate) auto_truncate: bool,
}

impl Limits {
    pub(crate) fn from_config() -> Self {
        Limits {
            inputs: setting("max_inputs", 1024),
            text_bytes: setting("max_text_bytes", 32_768),
            tokens: setting("max_tokens", 256),
            vocabulary: setting("vocabulary", 30_522),
            dimensions: setting("dimensions", 384),
            auto_truncate: setting("auto_truncate", false),
        }
    }
}

/// Whose client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    OpenAi,
    /// Text Embeddings Inference.
    Tei,
}

/// Paths below the function, as an operator's `[[route]]` leads to them.
const PATHS: [(&str, Service); 4] =
    [("", Service::OpenAi), ("/", Service::OpenAi), ("/v1/embeddings", Service::OpenAi), ("/embed", Service::Tei)];

/// What a question's texts are: written out, or as the ids of their tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Inputs {
    Texts(Vec<String>),
    Tokens(Vec<Vec<i64>>),
}

/// A question that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) service: Service,
    pub(crate) inputs: Inputs,
    /// Whether they came as a list: what pointers say.
    pub(crate) listed: bool,
    /// Whether vectors are written as base64.
    pub(crate) packed: bool,
    /// Whether vectors get the length one.
    pub(crate) normalize: bool,
    /// Whether a text that is too long loses its end; otherwise it is refused.
    pub(crate) truncate: bool,
}

impl Service {
    /// The member with the texts.
    fn member(self) -> &'static str {
        if self == Service::OpenAi { "input" } else { "inputs" }
    }

    /// The status that its clients know for a body that can be read and is no question.
    pub(crate) fn status(self, code: &str) -> u16 {
        match self {
            Service::OpenAi => 400,
            Service::Tei if code.starts_with("empty-") => 400,
            Service::Tei if ["too-many-inputs", "text-too-long", "too-many-tokens"].contains(&code) => 413,
            Service::Tei => 422,
        }
    }
}

impl Question {
    /// The place of an input.
    pub(crate) fn pointer(&self, row: usize) -> String {
        let member = self.service.member();
        if self.listed { format!("/{member}/{row}") } else { format!("/{member}") }
    }

    /// Refuses an input for its tokens.
    pub(crate) fn too_many_tokens(&self, row: usize, limit: u32) -> Rejection {
        const CODE: &str = "too-many-tokens";
        let detail = format!("this input has more than the {limit} tokens that the model is asked for at most");
        Rejection::new(self.service.status(CODE), CODE, detail).at(self.pointer(row))
    }
}

/// Reads the question out of the request.
pub(crate) fn read(request: &Request, limits: &Limits) -> Result<Question, Rejection> {
    let path = request.path();
    let Some((_, service)) = PATHS.iter().find(|(known, _)| *known == path) else {
        let detail = "nothing is embedded there; try /v1/embeddings, /embed";
        return Err(Rejection::new(404, "no-such-path", detail));
    };
    if request.method() != "POST" {
        return Err(Rejection::method_not_allowed("POST"));
    }
    let body = json::body(request)?;
    question(&Place::root(&body), *service, limits).map_err(|mut rejection| {
        rejection.status = service.status(&rejection.code);
        rejection
    })
}

fn question(body: &Place<'_>, service: Service, limits: &Limits) -> Result<Question, Rejection> {
    let member = service.member();
    if !body.value().is_object() {
        return Err(body.reject_kind("not-an-object", &format!("an object with `{member}`")));
    }
    let Some(place) = body.member(member) else {
        return Err(body.reject_missing("missing-input", member));
    };
    let (inputs, listed) = inputs(&place, limits)?;
    if let Some(dimensions) =
        body.member("dimensions").filter(|it| it.value().as_u64() != Some(limits.dimensions.into()))
    {
        // A prefix of a vector means something only where the model was trained for it.
        let detail = format!("this model's vectors have {} dimensions, and cannot be shortened", limits.dimensions);
        return Err(dimensions.reject("invalid-dimensions", detail));
    }
    let question = Question { service, inputs, listed, packed: false, normalize: true, truncate: limits.auto_truncate };
    match service {
        Service::OpenAi => openai(body, question),
        Service::Tei => tei(body, question),
    }
}

fn openai(body: &Place<'_>, question: Question) -> Result<Question, Rejection> {
    for name in ["model", "user"] {
        if let Some(place) = body.member(name).filter(|place| place.text().is_none()) {
            return Err(place.reject_kind(&format!("invalid-{name}"), "a string"));
        }
    }
    let packed = match body.member("encoding_format") {
        None => false,
        Some(place) => match place.text() {
            Some("float") => false,
            Some("base64") => true,
            _ => return Err(place.reject("invalid-encoding-format", "expected `float` or `base64`")),
        },
    };
    Ok(Question { packed, ..question })
}

fn tei(body: &Place<'_>, question: Question) -> Result<Question, Rejection> {
    let flag = |name: &str, otherwise: bool| match body.member(name) {
        None => Ok(otherwise),
        Some(place) => {
            let wanted = place.value().as_bool();
            wanted.ok_or_else(|| place.reject_kind(&format!("invalid-{name}"), "true or false"))
        }
    };
    let (truncate, normalize) = (flag("truncate", question.truncate)?, flag("normalize", true)?);
    if let Some(place) = body.member("truncation_direction") {
        match place.text().map(str::to_ascii_lowercase).as_deref() {
            Some("right") => {}
            Some("left") if !truncate => {}
            Some("left") => {
                let detail = "only an end is cut off here, no beginning";
                return Err(place.reject("invalid-truncation-direction", detail));
            }
            _ => return Err(place.reject("invalid-truncation-direction", "expected `Left` or `Right`")),
        }
    }
    if let Some(place) = body.member("prompt_name") {
        return Err(place.reject("unknown-prompt", "this model has no prompts"));
    }
    Ok(Question { truncate, normalize, ..question })
}

/// A text, a list of texts, a row of tokens, or a list of such rows; and whether it is a list.
fn inputs(place: &Place<'_>, limits: &Limits) -> Result<(Inputs, bool), Rejection> {
    const WANTED: &str = "a string, strings, ids of tokens, or lists of these";
    if place.value().is_string() {
        return Ok((Inputs::Texts(vec![text(place, limits)?]), false));
    }
    let Some(items) = place.items() else {
        return Err(place.reject_kind("invalid-input", WANTED));
    };
    if items.len() == 0 {
        return Err(place.reject("empty-input", "there is nothing to embed"));
    }
    if place.value()[0].is_number() {
        return Ok((Inputs::Tokens(vec![tokens(place, limits)?]), false));
    }
    if items.len() > limits.inputs {
        let detail = format!("{} inputs, {} at most", items.len(), limits.inputs);
        return Err(place.reject("too-many-inputs", detail));
    }
    let inputs = match &place.value()[0] {
        Value::Array(_) => Inputs::Tokens(items.map(|item| tokens(&item, limits)).collect::<Result<_, _>>()?),
        _ => Inputs::Texts(items.map(|item| text(&item, limits)).collect::<Result<_, _>>()?),
    };
    Ok((inputs, true))
}

fn text(place: &Place<'_>, limits: &Limits) -> Result<String, Rejection> {
    let Some(text) = place.text() else {
        return Err(place.reject_kind("invalid-input", "a string"));
    };
    if text.is_empty() {
        return Err(place.reject("empty-input", "the text is empty"));
    }
    if text.len() > limits.text_bytes {
        let detail = format!("{} bytes of text, {} at most", text.len(), limits.text_bytes);
        return Err(place.reject("text-too-long", detail));
    }
    Ok(text.to_owned())
}

/// Ids go to the model as they are: what begins and ends a row is the caller's to send.
fn tokens(place: &Place<'_>, limits: &Limits) -> Result<Vec<i64>, Rejection> {
    let Some(items) = place.items() else {
        return Err(place.reject_kind("invalid-input", "ids of tokens"));
    };
    if items.len() == 0 {
        return Err(place.reject("empty-input", "there are no tokens"));
    }
    if items.len() > limits.tokens as usize {
        let detail = format!("{} tokens, {} at most", items.len(), limits.tokens);
        return Err(place.reject("too-many-tokens", detail));
    }
    let token = |item: Place<'_>| {
        let id = item.value().as_i64().filter(|id| (0..i64::from(limits.vocabulary)).contains(id));
        id.ok_or_else(|| {
            let found = if item.value().is_number() { item.value().to_string() } else { item.kind().to_owned() };
            item.reject("invalid-token", format!("expected an id from 0 to {}, found {found}", limits.vocabulary - 1))
        })
    };
    items.map(token).collect()
}

#[cfg(test)]
#[path = "asked_tests.rs"]
mod tests;
