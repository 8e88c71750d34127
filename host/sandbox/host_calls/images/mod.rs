//! `images`: decoded images, in the host's memory. The handles, and what each call checks, charges and lets others run
//! between; the work itself is in the files beside, which know no guests.
//!
//! Every call into a library is one piece of work that cannot be interrupted (one JPEG, one resize, one encoding), so
//! others run before and after it; what can be cut (rows of a PNG, tiles of a drawing) is.

mod encode;
mod fit;
mod geometry;
mod jpeg;
mod label;
mod open;
mod pen;
mod picture;
mod png;
mod resample;
mod row;
mod segments;
mod shapes;
mod watched;
mod webp;

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{Result, component::Resource};

pub use self::{fit::Fit, pen::Pen};
use self::{
    open::{Opened, Unreadable, head_bytes},
    picture::Picture,
};
use super::{failure, memory, request::Handle, response::Draft, tensors::Tensor};
use crate::{
    account::{Account, Charge, Kind, Used},
    sandbox::{
        bindings::{
            images::{Area, Host, HostImage, Mapping, Point},
            types::Failure,
        },
        limits::HANDLE_BYTES,
        meter::Clock,
        store::Guest,
        ticker::{TICK, pause},
    },
};

/// Work on more pixels than this takes over a millisecond: it goes on where it keeps nobody from their connections.
const LONG_PIXELS: u64 = 100_000;
/// Bytes of a file whose head is read in the time that a pixel is decoded in: they are looked through for where it ends, and
/// metadata is copied.
const HEAD_BYTES_PER_PIXEL: u64 = 8;
/// Work on fewer is timed by the wall clock, which costs a tenth of the thread's own.
const SHORT_PIXELS: u64 = 10_000;

type Outcome<T> = std::result::Result<T, Failure>;

/// A decoded image that a guest holds a handle of.
pub struct Image {
    /// Shared only while a call reads it.
    picture: Arc<Picture>,
    charge: Charge,
    _handle: Charge,
}

impl Image {
    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        let (charge, _handle) = (account.nothing(Kind::Images), account.nothing(Kind::Handles));
        *self = Self { picture: Arc::default(), charge, _handle };
    }
}

/// A piece of work that is being timed.
struct Work {
    clock: Clock,
    long: bool,
}

impl Guest {
    /// Begins work on so many pixels; what will take long lets others run first, and may end here.
    fn begin(&self, pixels: u64) -> impl Future<Output = Work> + Send + use<> {
        let invocation = self.assignment.invocation.clone();
        let long = pixels > LONG_PIXELS;
        async move {
            if long {
                invocation.mark_long();
                pause().await;
            }
            Work { clock: Clock::start(pixels > SHORT_PIXELS), long }
        }
    }

    /// Ends it: its time is charged, and others run if it held the thread for long.
    fn end(&self, work: Work) -> impl Future<Output = ()> + Send + use<> {
        let time = work.clock.elapsed();
        let invocation = self.assignment.invocation.clone();
        invocation.account.spend(Used::HostCall, time);
        let long = work.long || time >= TICK;
        async move {
            if long {
                invocation.mark_long();
                pause().await;
            }
        }
    }

    /// A handle of a picture whose memory `charge` is for.
    fn give(&mut self, picture: Picture, charge: Charge, handle: Charge) -> Result<Resource<Image>> {
        Ok(self.table.push(Image { picture: picture.into(), charge, _handle: handle })?)
    }

    async fn decode(&mut self, bytes: &Bytes) -> Outcome<(Picture, Charge, Charge)> {
        let handle = self.limits.charge(Kind::Handles, HANDLE_BYTES).map_err(memory)?;
        if bytes.len() as u64 > self.image_limits.bytes {
            let detail = format!("the image has {} bytes, at most {} are taken", bytes.len(), self.image_limits.bytes);
            return Err(failure("too-large", detail));
        }
        let head = self.limits.charge(Kind::Images, head_bytes(bytes)).map_err(memory)?;
        let work = self.begin(bytes.len() as u64 / HEAD_BYTES_PER_PIXEL).await;
        let opened = Opened::new(bytes).map_err(refused);
        self.end(work).await;
        let mut opened = opened?;
        self.check_pixels(opened.width, opened.height)?;
        drop(head);
        let size = picture::bytes(opened.width, opened.height, opened.channels);
        let charge = self.limits.charge(Kind::Images, size).map_err(memory)?;
        let turned = if opened.turns() { size } else { 0 };
        let _working = self.limits.charge(Kind::Images, opened.working_bytes.max(turned)).map_err(memory)?;
        let pixels = u64::from(opened.width) * u64::from(opened.height);
        let mut work = self.begin(pixels).await;
        let mut picture = opened.blank();
        loop {
            let done = opened.step(&mut picture);
            if let Ok(false) = done {
                self.end(work).await;
                work = self.begin(LONG_PIXELS).await;
                continue;
            }
            self.end(work).await;
            done.map_err(refused)?;
            break;
        }
        let work = self.begin(if turned > 0 { pixels } else { 0 }).await;
        let picture = opened.upright(picture);
        self.end(work).await;
        Ok((picture, charge, handle))
    }

    fn check_pixels(&self, width: u32, height: u32) -> Outcome<()> {
        let (pixels, most) = (u64::from(width) * u64::from(height), self.image_limits.pixels);
        if pixels > most {
            let detail = format!("the image has {width} x {height} pixels, at most {most} are taken");
            return Err(failure("too-large", detail));
        }
        Ok(())
    }
}

fn refused(Unreadable(detail): Unreadable) -> Failure {
    failure("not-an-image", detail)
}

impl Host for Guest {}

impl HostImage for Guest {
    async fn from_body(
        &mut self,
        request: Resource<Handle>,
        offset: u64,
        length: u64,
    ) -> Result<Outcome<Resource<Image>>> {
        self.table.get(&request)?;
        let body = &self.assignment.request.body;
        let Some(end) = offset.checked_add(length).filter(|end| *end <= body.len() as u64) else {
            let detail = format!("{length} bytes from {offset} on lie outside the body's {} bytes", body.len());
            return Ok(Err(failure("out-of-bounds", detail)));
        };
        let bytes = body.slice(offset as usize..end as usize);
        match self.decode(&bytes).await {
            Ok((picture, charge, handle)) => Ok(Ok(self.give(picture, charge, handle)?)),
            Err(failure) => Ok(Err(failure)),
        }
    }

    async fn from_bytes(&mut self, bytes: Vec<u8>) -> Result<Outcome<Resource<Image>>> {
        // They are here already, copied within what one call may pass; from here on they are held while others run.
        let _bytes = match self.limits.charge(Kind::Images, bytes.len() as u64) {
            Ok(charge) => charge,
            Err(holder) => return Ok(Err(memory(holder))),
        };
        match self.decode(&bytes.into()).await {
            Ok((picture, charge, handle)) => Ok(Ok(self.give(picture, charge, handle)?)),
            Err(failure) => Ok(Err(failure)),
        }
    }

    fn from_pixels(
        &mut self,
        width: u32,
        height: u32,
        channels: u32,
        bytes: Vec<u8>,
    ) -> Result<Outcome<Resource<Image>>> {
        let size = picture::bytes(width, height, channels as usize);
        if !matches!(channels, 1 | 3) || size == 0 || size != bytes.len() as u64 {
            let detail = format!("{} bytes are not {width} x {height} pixels of {channels} channels", bytes.len());
            return Ok(Err(failure("invalid-shape", detail)));
        }
        if let Err(failure) = self.check_pixels(width, height) {
            return Ok(Err(failure));
        }
        let charges = self.limits.charge(Kind::Images, size);
        let charges = charges.and_then(|charge| Ok((charge, self.limits.charge(Kind::Handles, HANDLE_BYTES)?)));
        let (charge, handle) = match charges {
            Ok(charges) => charges,
            Err(holder) => return Ok(Err(memory(holder))),
        };
        let picture = Picture { width, height, channels: channels as usize, pixels: bytes };
        Ok(Ok(self.give(picture, charge, handle)?))
    }

    fn width(&mut self, this: Resource<Image>) -> Result<u32> {
        Ok(self.table.get(&this)?.picture.width)
    }

    fn height(&mut self, this: Resource<Image>) -> Result<u32> {
        Ok(self.table.get(&this)?.picture.height)
    }

    async fn into_tensor(
        &mut self,
        this: Resource<Image>,
        tensor: Resource<Tensor>,
        row: u64,
        fit: Resource<Fit>,
    ) -> Result<Outcome<Mapping>> {
        self.write_row(this, tensor, row, fit).await
    }

    async fn draw_box(&mut self, this: Resource<Image>, area: Area, pen: Resource<Pen>) -> Result<()> {
        self.paint_box(this, area, pen).await
    }

    async fn draw_polygon(&mut self, this: Resource<Image>, rings: Vec<Vec<Point>>, pen: Resource<Pen>) -> Result<()> {
        self.paint_rings(this, rings, pen).await
    }

    async fn encode(&mut self, this: Resource<Image>, format: String, into: Resource<Draft>) -> Result<Outcome<()>> {
        self.encode_into(this, &format, into).await
    }

    fn drop(&mut self, this: Resource<Image>) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
