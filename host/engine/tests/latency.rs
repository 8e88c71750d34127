//! What the engine itself costs: one caller, an identity model. Not a test of right or wrong, so it runs when asked for:
//! `cargo test --lib engine::tests::latency -- --ignored --nocapture`.

use std::time::Duration;

use super::*;
use crate::{engine::torch, tensor::Datatype};

const IDENTITY: &str = r#"
[[input]]
name = "x"
datatype = "FP32"
shape = ["rows", 16]
[[output]]
name = "y"
datatype = "FP32"
shape = ["rows", 16]
"#;
const CALLS: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement"]
async fn of_an_identity_model() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "models/echo/model.toml", IDENTITY);
    let file = folder.path().join("models/echo/1/model.pt");
    let example = tch::Tensor::zeros([1, 16], (tch::Kind::Float, tch::Device::Cpu));
    torch::tests::trace(&file, &[example], |inputs| vec![inputs[0].shallow_clone()]);
    let torch_backend = Arc::new(torch::Torch::default());
    for backend in [Arc::new(Fake::default()) as Arc<dyn crate::engine::Backend>, torch_backend] {
        let platform = backend.platform();
        let engine = Engine::start(&config(folder.path()), backend, &Telemetry::new()).unwrap();
        let spawned = tokio::spawn(measure(engine.clone())).await.unwrap();
        engine.stop();
        tell(&format!("{platform}: p50 {:?}, p99 {:?}", spawned[CALLS / 2], spawned[CALLS * 99 / 100]));
    }
}

async fn measure(engine: Arc<Engine>) -> Vec<Duration> {
    let model = engine.model("echo", Version::Serving).unwrap();
    let host = Account::host(1 << 20);
    let bytes = bytes::Bytes::from(vec![0; 64]);
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let invocation = {
            let deadline = Instant::now() + Duration::from_secs(10);
            let account = host.child(Holder::Invocation, 1 << 16);
            Arc::new(Invocation::new("i".into(), ("t".into(), "f".into()), deadline, account))
        };
        let tensor = Tensor::new(Datatype::Fp32, Layout::fixed(&[1, 16]).unwrap(), bytes.clone()).unwrap();
        let begun = Instant::now();
        let pending = model.infer(vec![("x".into(), tensor)], Vec::new(), &invocation).unwrap();
        pending.outputs().await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times
}

#[expect(clippy::print_stderr, reason = "the figure is the result")]
fn tell(text: &str) {
    eprintln!("{text}");
}
