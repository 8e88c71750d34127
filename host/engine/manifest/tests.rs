//! Good files, and bad ones with what is said about each.

use super::*;
use crate::tensor::Datatype;

const GOOD: &str = r#"
[dimensions]
seq = { max = 512 }
[[input]]
name = "input_ids"
datatype = "INT64"
shape = ["rows", "seq"]
range = [0, 30521]
[[output]]
name = "embedding"
datatype = "FP32"
shape = ["rows", 384]
[batching]
max_batch_elements = 4096
buckets = { seq = [16, 512] }
[instances]
count = 2
"#;

#[test]
fn a_good_file_with_its_defaults() {
    let manifest = Manifest::parse(GOOD).unwrap();
    assert_eq!(manifest.signature.inputs[0].kind.to_string(), "INT64[rows, seq]");
    assert_eq!(manifest.signature.outputs[0].kind.datatype, Datatype::Fp32);
    assert_eq!(manifest.signature.dimensions, [("seq".to_owned(), 512)]);
    assert_eq!((manifest.max_batch_size, manifest.max_batch_elements), (32, 4096));
    assert_eq!((manifest.max_queue_size, manifest.max_request_rows), (256, 1024));
    assert_eq!((manifest.max_batch, manifest.queue_timeout), (Duration::from_millis(250), Duration::from_secs(2)));
    assert_eq!((manifest.instances, manifest.placement), (2, Placement::Auto));
    assert_eq!(manifest.buckets, [[16, 512]]);
}

#[test]
fn what_is_left_out_has_a_default() {
    let small = GOOD.replace("buckets = { seq = [16, 512] }", "").replace("max_batch_elements = 4096", "");
    let manifest = Manifest::parse(&small).unwrap();
    assert_eq!(manifest.buckets, [[16, 32, 64, 128, 256, 512]]);
    assert_eq!(manifest.max_batch_elements, u64::MAX);
    let fixed = "[[input]]\nname = \"a\"\ndatatype = \"FP32\"\nshape = [\"rows\", 16]\n[[output]]\nname = \"b\"\n\
                 datatype = \"FP32\"\nshape = [\"rows\"]\n[memory]\nmax_safe_batch_size = 12\n";
    let manifest = Manifest::parse(fixed).unwrap();
    assert_eq!((manifest.max_batch_size, manifest.instances, manifest.buckets.len()), (12, 4, 0));
}

#[test]
fn every_rule_names_the_key_and_what_would_be_right() {
    let cases = [
        ("range = [0, 30521]", "", "input `input_ids`: INT64 needs `range = [smallest, largest]`"),
        ("range = [0, 30521]", "range = [5, 1]", "input `input_ids`: range [5, 1] is empty"),
        ("range = [0, 30521]", "range = [1, 9]", "batching.pad.input_ids: 0 is outside the input's range [1, 9]"),
        ("\"INT64\"", "\"INT65\"", "input `input_ids`: unknown datatype `INT65`"),
        ("\"INT64\"", "\"FP32\"", "input `input_ids`: a range is for integers, this is FP32"),
        ("\"INT64\"", "\"UINT8\"", "input `input_ids`: range [0, 30521] does not fit in UINT8"),
        ("[\"rows\", \"seq\"]", "[\"seq\"]", "input `input_ids`: the first dimension must be `rows`"),
        ("[\"rows\", \"seq\"]", "[\"rows\", 4]", "dimensions.seq: no input has this dimension"),
        ("[\"rows\", \"seq\"]", "[\"rows\", \"len\"]", "input `input_ids`: dimension `len` is not in [dimensions]"),
        ("[\"rows\", 384]", "[\"rows\", \"len\"]", "output `embedding`: dimension `len` is not in [dimensions]"),
        ("[\"rows\", 384]", "[\"rows\", 0]", "output `embedding`: `0` is neither a number from 1"),
        ("[\"rows\", 384]", "[\"rows\", 999999999999999]", "tensor `embedding` at its largest: the size in bytes"),
        ("max = 512", "max = 0", "dimensions.seq.max: must be at least 1"),
        ("name = \"embedding\"", "name = \"\"", "output ``: every output needs a name of its own"),
        ("[[output]]", "[[output]]\nrange = [0, 1]", "output `embedding`: range (0, 1) is for inputs only"),
        ("[16, 512]", "[16, 16, 512]", "batching.buckets.seq: must ascend from at least 1 and end at the maximum, 512"),
        ("[16, 512]", "[16, 256]", "batching.buckets.seq: must ascend from at least 1 and end at the maximum, 512"),
        ("[16, 512]", "[]", "batching.buckets.seq: must ascend"),
        ("{ seq = [16, 512] }", "{ len = [1] }", "batching.buckets.len: there is no such dimension"),
        ("= 4096", "= 511", "batching.max_batch_elements: 511 is less than the 512 of one largest row"),
        ("[batching]", "[batching]\nmax_batch_size = 0", "batching.max_batch_size: must be from 1 to 65536, is 0"),
        ("[batching]", "[batching]\nqueue_timeout_ms = 0", "batching.queue_timeout_ms: must be from 1 to 3600000"),
        ("[batching]", "[batching]\npad = { embedding = 0 }", "batching.pad.embedding: no input of this name"),
        ("[batching]", "[batching]\npad = { input_ids = 0.5 }", "batching.pad.input_ids: 0.5 is no INT64"),
        ("[batching]", "[batching]\nmax_batchsize = 1", "unknown field `max_batchsize`"),
        ("count = 2", "count = 65", "instances.count: must be from 1 to 64, is 65"),
        (
            "count = 2",
            "device = \"cuda:x\"",
            "instances.device: `cuda:x` is unknown; known: \"auto\", \"cpu\", \"cuda\"",
        ),
        ("count = 2", "device = \"tpu\"", "instances.device: `tpu` is unknown; known: \"auto\", \"cpu\""),
        (
            "count = 2",
            "[model]\nprecision = \"int4\"",
            "model.precision: `int4` is unknown; known: \"fp32\", \"tf32\", \"bf16\", \"fp16\"",
        ),
        ("count = 2", "[model]\ntolerance = 0.0", "model.tolerance: must be above 0 and at most 1, is 0"),
        (
            "count = 2",
            "count = 2\n[model]\nformat = \"onnx\"",
            "model.format: `onnx` is unknown; known: \"torchscript\", \"aoti\"",
        ),
        (
            "count = 2",
            "count = 2\n[model]\nformat = \"aoti\"\nprecision = \"bf16\"",
            "model.precision: a package has the weights that it was compiled with; compile it in 16 bits",
        ),
        ("count = 2", "count = 2\n[memory]\nmax_safe_batch_size = 0", "memory.max_safe_batch_size: must be from 1"),
        ("count = 2", "count = ", "TOML parse error at line 17"),
    ];
    for (good, bad, expected) in cases {
        let message = Manifest::parse(&GOOD.replacen(good, bad, 1)).unwrap_err();
        assert!(message.contains(expected), "for {bad:?} expected {expected:?}, got {message:?}");
    }
    assert!(Manifest::parse("").unwrap_err().contains("there is no [[input]]"));
}

#[test]
fn a_file_that_cannot_be_read_or_judged_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(FILE);
    let said = || Manifest::read(&file).unwrap_err().to_string();
    assert!(said().ends_with("model.toml: No such file or directory (os error 2)"), "{}", said());
    std::fs::write(&file, "[batching]\nbatch = 1\n").unwrap();
    assert!(said().contains("model.toml: TOML parse error at line 2"), "{}", said());
}
