//! Several devices, on the fake: where a model's instances go, and that rows go to whichever is free.

use super::*;
use crate::engine::{Device, ModelState};

fn on(device: &str, gpus: u32) -> Bench {
    let instances = format!("\n[instances]\ncount = 2\ndevice = \"{device}\"\n");
    Bench::new(Behaviour { gpus, ..Behaviour::default() }, |text| text + &instances)
}

#[test]
fn instances_go_where_model_toml_says() {
    let placed = |device: &str, gpus| {
        let status = on(device, gpus).engine.models().swap_remove(0);
        (status.device, status.instances)
    };
    // One lane for each core here, and as many streams as are asked for on each GPU.
    assert_eq!(placed("auto", 0), ("cpu".into(), 1));
    assert_eq!(placed("auto", 2), ("cuda:0, cuda:1".into(), 4));
    assert_eq!(placed("cuda", 2), ("cuda:0, cuda:1".into(), 4));
    assert_eq!(placed("cuda:1", 2), ("cuda:1".into(), 2));
    assert_eq!(placed("cpu", 2), ("cpu".into(), 1));
}

#[test]
fn a_device_that_is_not_there_is_told_with_those_that_are() {
    for (device, gpus, there) in [("cuda", 0, "this host has cpu"), ("cuda:7", 1, "this host has cpu, cuda:0")] {
        let ModelState::Failed { error } = on(device, gpus).engine.models()[0].state.clone() else { panic!("serves") };
        assert!(error.contains(&format!("asks for {device}")) && error.contains(there), "{error}");
    }
}

#[tokio::test]
async fn rows_go_to_whichever_device_is_free() {
    let bench = on("auto", 2);
    bench.fake.hold();
    let pending: Vec<_> = (0..4)
        .map(|value| {
            let pending = bench.infer(&[&[value]]).unwrap();
            bench.fake.wait_running(value as usize + 1);
            pending
        })
        .collect();
    bench.fake.release();
    for (value, pending) in pending.into_iter().enumerate() {
        assert_eq!(rows(&pending.outputs().await.unwrap()), echoed(&[&[value as i64]]));
    }
    assert_eq!([0, 1].map(|index| bench.fake.rows_on(Device::Cuda(index))), [2, 2]);
}

#[test]
fn memory_is_shared_out_on_each_device_by_itself() {
    let memory = Some(crate::engine::fake::Memory::default());
    let instances = "\n[instances]\ncount = 2\ndevice = \"auto\"\n";
    let bench = Bench::new(Behaviour { gpus: 2, memory, ..Behaviour::default() }, |text| text + instances);
    let devices: Vec<_> = bench.telemetry.device_memory().into_iter().map(|memory| memory.device).collect();
    assert_eq!(devices, ["cpu", "cuda:0", "cuda:1"]);
    let model = bench.model();
    let lanes: Vec<_> = model.ground().places.iter().map(|place| place.share.lane_bytes()).collect();
    let limit = bench.telemetry.device_memory()[1].limit_bytes;
    assert_eq!(lanes, [limit / 2; 2]);
}
