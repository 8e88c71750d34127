//! Host calls with arguments that no honest plugin gives: each is answered with a failure's code or with nothing, and
//! the answer of `/absurd?what=…` lists what came.

use serde_json::{Map, Value, json};
use tenon_sdk::text::{Input, Options, encode};
use tenon_sdk::{
    CachePolicy, Failure, HostCall, Inference, Rejection, Request, Response, Step, Tensor, config, logging,
};

use crate::query;

/// A model of the probe's that has a tokenizer, where a test has put one beside it.
const TEXT_MODEL: &str = "ragged";
const HUGE_TEXT_BYTES: usize = 100 << 20;
const MANY: usize = 1_000_000;
const LONG: usize = 1 << 20;

type Seen = Vec<(&'static str, Value)>;

/// The answer of `/absurd?what=…`.
pub(crate) fn answer(path: &str, request: &Request) -> Result<Option<Step>, Rejection> {
    if path != "/absurd" {
        return Ok(None);
    }
    let seen = match query::value(request, "what").as_deref() {
        Some("tensors") => tensors(),
        Some("body") => body(request),
        Some("texts") => texts(),
        Some("huge-text") => vec![("encode", said(encode_one(&"a".repeat(HUGE_TEXT_BYTES), &Options::new())))],
        Some("many-texts") => {
            let inputs: Vec<_> = (0..MANY).map(|_| Input::Single(String::new())).collect();
            vec![("encode", said(encode(TEXT_MODEL, &inputs, &Options::new())))]
        }
        Some("responses") => responses(),
        Some("steps") => steps(),
        Some("rest") => rest(),
        _ => return Err(Rejection::bad_request("no-such-absurdity", "`what` is none of those that the probe knows")),
    };
    let seen: Map<_, _> = seen.into_iter().map(|(call, came)| (call.to_owned(), came)).collect();
    Ok(Some(Response::json(200, &Value::Object(seen)).or_trap().into()))
}

fn said<T>(result: Result<T, Failure>) -> Value {
    result.map_or_else(|failure| json!(failure.code), |_| json!("ok"))
}

fn tensors() -> Seen {
    let tensor = Tensor::create("FP32", &[2, 4]).or_trap();
    let mut dimensions = vec![1; 9];
    let mut seen = vec![
        ("write-far", said(tensor.write(u64::MAX, &[1]))),
        ("write-over-the-end", said(tensor.write(31, &[1, 2]))),
        ("write-nothing-far", said(tensor.write(u64::MAX, &[]))),
        ("write-much", said(tensor.write(0, &vec![1; LONG]))),
        ("read-far", said(tensor.read(u64::MAX, 1))),
        ("read-all-there-is", said(tensor.read(0, u64::MAX))),
        ("read-around", said(tensor.read(u64::MAX, u64::MAX))),
        ("read-one-more", said(tensor.read(1, 32))),
        ("scalar", said(Tensor::create("FP32", &[]))),
        ("huge", said(Tensor::create("FP32", &[u64::MAX, u64::MAX]))),
        ("overflow-to-zero", said(Tensor::create("UINT8", &[1 << 32, 1 << 32]))),
        ("zero-times-huge", said(Tensor::create("FP64", &[0, u64::MAX]))),
        ("many-rows-of-nothing", said(Tensor::create("FP32", &[u64::MAX, 0]))),
        ("nine-dimensions", said(Tensor::create("FP32", &dimensions))),
        ("bytes", said(Tensor::create("BYTES", &[1]))),
        ("no-datatype", said(Tensor::create("", &[1]))),
        ("long-datatype", said(Tensor::create(&"F".repeat(LONG), &[1]))),
        ("axis-far", said(Tensor::create_ragged("INT64", &[0], u32::MAX, &[1]))),
        ("no-axis", said(Tensor::create_ragged("INT64", &[], 0, &[1]))),
        ("lengths-overflow", said(Tensor::create_ragged("INT64", &[0], 0, &[u64::MAX, 2]))),
        ("long-row", said(Tensor::create_ragged("INT64", &[0, 1 << 40], 0, &[1 << 40]))),
        ("many-lengths", said(Tensor::create_ragged("INT64", &[0], 0, &vec![0; MANY]))),
        ("no-lengths", said(Tensor::create_ragged("INT64", &[0], 0, &[]))),
    ];
    dimensions.resize(MANY, 1);
    seen.push(("many-dimensions", said(Tensor::create("FP32", &dimensions))));
    seen
}

fn body(request: &Request) -> Seen {
    let size = |offset, length| json!(request.read_body(offset, length).len());
    vec![
        ("far", size(u64::MAX, 1)),
        ("around", size(u64::MAX, u64::MAX)),
        ("all-there-is", size(0, u64::MAX)),
        ("from-one", size(1, u64::MAX)),
        ("nothing", size(0, 0)),
        ("header", json!(request.header(&"x".repeat(LONG)))),
    ]
}

fn encode_one(text: &str, options: &Options) -> Result<(), Failure> {
    encode(TEXT_MODEL, &[Input::Single(text.to_owned())], options).map(drop)
}

fn texts() -> Seen {
    let none_at_all = Options::new();
    none_at_all.max_length(0);
    let longer_than_the_model = Options::new();
    longer_than_the_model.max_length(u32::MAX);
    let words = "a ".repeat(200);
    let fresh = Options::new();
    let pair = Input::Pair((words.clone(), words.clone()));
    vec![
        ("no-model", said(encode("nobody", &[], &fresh))),
        ("no-tokenizer", said(encode("identity", &[], &fresh))),
        ("no-texts", said(encode(TEXT_MODEL, &[], &fresh))),
        ("no-tokens", said(encode_one("a", &none_at_all))),
        ("longer-than-the-model", said(encode_one(&words, &longer_than_the_model))),
        ("pair", said(encode(TEXT_MODEL, &[pair], &fresh))),
        ("truncate", said(fresh.truncate("by half"))),
        ("truncate-long", said(fresh.truncate(&"x".repeat(LONG)))),
        ("one-text-over", said(encode_one(&" ".repeat(LONG + 1), &fresh))),
        ("control-characters", said(encode_one("\0\u{1}\u{202e}\u{feff}\u{10ffff}", &fresh))),
        ("right", said(encode_one("a a a", &fresh))),
    ]
}

fn responses() -> Seen {
    let response = Response::new(200, "text/plain");
    let mut seen = vec![
        ("long-name", said(response.header(&"x".repeat(LONG), "1"))),
        ("long-value", said(response.header("x-long", &"v".repeat(LONG)))),
        ("nul", said(response.header("x-nul", "a\0b"))),
        ("line-feed", said(response.header("x-line", "a\nb"))),
        ("delete", said(response.header("x-delete", "\u{7f}"))),
        ("colon", said(response.header("x:y", "1"))),
        ("not-ascii", said(response.header("x-\u{e4}", "1"))),
        ("te", said(response.header("TE", "trailers"))),
        ("nothing", said(response.write(&[]))),
    ];
    let headers = (0..100).map(|number| response.header(&format!("x-{number}"), "1")).collect::<Result<Vec<_>, _>>();
    seen.push(("a-hundred", said(headers)));
    seen
}

fn steps() -> Seen {
    let raw = || Inference::new("identity");
    let tensor = Tensor::create("FP32", &[1, 16]).or_trap();
    let twice = raw().input("x", &tensor).and_then(|inference| inference.input("x", &tensor));
    let many = (0..100).try_fold(raw(), |inference, number| inference.input(&number.to_string(), &tensor));
    vec![("twice", said(twice)), ("a-hundred", said(many)), ("no-name", said(raw().input("", &tensor)))]
}

fn rest() -> Seen {
    let policy = CachePolicy::new();
    policy.ttl_ms(u64::MAX);
    policy.key(&vec![0; LONG]);
    policy.tag(&"t".repeat(LONG));
    logging::log(logging::Level::Error, &"\n\r\u{1b}[2J".repeat(LONG / 8));
    vec![("config", json!(config::get(&"k".repeat(LONG))))]
}
