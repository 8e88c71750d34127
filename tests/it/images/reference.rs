//! What Pillow and OpenCV make of the same pictures, in `reference.py`.

use super::host;
use crate::programs;

/// What pip is told.
const PACKAGES: &str = "pillow==13.0.0 opencv-python-headless==5.0.0.93 numpy==2.4.6";

#[tokio::test(flavor = "multi_thread")]
async fn pillow_and_opencv_agree() {
    if programs::python("PIL", PACKAGES).is_none() {
        return;
    }
    let Some(mut python) = programs::python("cv2", PACKAGES) else { return };
    let host = host().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/images/reference.py");
    python.args([script, &format!("{}/v1/functions/test/easel", host.base)]);
    let output = tokio::task::spawn_blocking(move || python.output()).await.unwrap().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.ends_with("well\n"), "{said}{error}");
    host.all_back_to_zero().await;
}
