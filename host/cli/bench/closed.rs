//! Closed loop: each client sends its next request when it has its answer, as a caller does that waits.
//!
//! It shows how fast a server is for so many callers. It cannot show what a stall costs those who would have come
//! meanwhile: that is what `open` is for.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::run::Drive;
use super::tally::{Ended, Tally};
use super::wire::Missed;

/// A server that does not take connections is asked again after this long, not in a tight loop.
const AFTER_A_FAILED_CONNECT: Duration = Duration::from_millis(100);
/// The longest sleep before a client looks whether it should stop.
const NAP: Duration = Duration::from_millis(200);

/// One client from beginning to end. `number` tells its first body.
pub(super) async fn client(drive: &Drive, tally: &RefCell<Tally>, number: u64) {
    let (window, gauge) = (drive.window, &drive.gauge);
    let mut client = drive.wire.client();
    let mut body = number;
    loop {
        let begun = Instant::now();
        if gauge.stopped() || window.is_over(begun) {
            break;
        }
        let counts = window.counts(begun);
        if counts && !gauge.begin(drive.requests_max) {
            break;
        }
        let (result, bytes_out) = drive.ask(&mut client, body).await;
        body = body.wrapping_add(u64::from(drive.clients));
        let ended = Instant::now();
        let pause = match &result {
            Err(Missed::Connect) => Some(AFTER_A_FAILED_CONNECT),
            Ok(answer) if drive.honour_retry_after => answer.retry_after,
            _ => None,
        };
        if counts {
            let in_time = drive.in_time(ended);
            let good = tally.borrow_mut().count(Ended { result, from: begun, to: ended, bytes_out, in_time });
            gauge.ended(good);
        }
        if let Some(pause) = pause {
            rest(drive, ended + pause).await;
        }
    }
    tally.borrow_mut().connections += client.connections;
}

/// Waits until then, or until the measurement is over.
async fn rest(drive: &Drive, until: Instant) {
    loop {
        let now = Instant::now();
        if now >= until || drive.gauge.stopped() || drive.window.is_over(now) {
            return;
        }
        sleep(NAP.min(until - now)).await;
    }
}
