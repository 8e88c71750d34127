//! `fit`, and `image.into-tensor`: options, checks and charges around the geometry, the filter and the loops.

use std::sync::Arc;

use wasmtime::{Result, component::Resource};

use super::{
    Image, Outcome,
    geometry::{InvalidArea, Mode, Plan},
    picture::{self, Picture},
    resample::{self, Filter},
    row::{self, Order, Pixels, Target, Values},
};
use crate::{
    account::{Account, Charge, Kind},
    sandbox::{
        bindings::images::{Area, HostFit, Mapping},
        host_calls::{failure, memory, tensors::Tensor},
        store::Guest,
    },
};

/// Grey in the middle, as letterboxes of detectors have it.
const BARS: u8 = 114;

/// How the guest wants an image written.
pub struct Fit {
    wanted: Wanted,
    _handle: Charge,
}

/// What a fit says.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    size: [u32; 2],
    mode: Mode,
    filter: Filter,
    order: Order,
    values: Values,
    area: Option<Area>,
}

impl Fit {
    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        self._handle = account.nothing(Kind::Handles);
    }
}

impl HostFit for Guest {
    fn new(&mut self, width: u32, height: u32) -> Result<Resource<Fit>> {
        let handle = self.limits.handle()?;
        let values = Values { mean: [0.0; 3], deviation: [1.0; 3], bars: [BARS; 3] };
        let (mode, filter, order) = Default::default();
        let wanted = Wanted { size: [width, height], mode, filter, order, values, area: None };
        Ok(self.table.push(Fit { wanted, _handle: handle })?)
    }

    fn mode(&mut self, this: Resource<Fit>, mode: String) -> Result<Outcome<()>> {
        let mode = match &mode[..] {
            "stretch" => Mode::Stretch,
            "letterbox" => Mode::Letterbox,
            "cover" => Mode::Cover,
            _ => return Ok(Err(failure("unknown-option", "the mode is one of stretch, letterbox, cover"))),
        };
        self.table.get_mut(&this)?.wanted.mode = mode;
        Ok(Ok(()))
    }

    fn filter(&mut self, this: Resource<Fit>, filter: String) -> Result<Outcome<()>> {
        let filter = match &filter[..] {
            "nearest" => Filter::Nearest,
            "bilinear" => Filter::Bilinear,
            "triangle-antialias" => Filter::Triangle,
            "bicubic-antialias" => Filter::Bicubic,
            "lanczos3-antialias" => Filter::Lanczos3,
            _ => {
                let known = "nearest, bilinear, triangle-antialias, bicubic-antialias, lanczos3-antialias";
                return Ok(Err(failure("unknown-option", format!("the filter is one of {known}"))));
            }
        };
        self.table.get_mut(&this)?.wanted.filter = filter;
        Ok(Ok(()))
    }

    fn bars(&mut self, this: Resource<Fit>, red: u8, green: u8, blue: u8) -> Result<()> {
        self.table.get_mut(&this)?.wanted.values.bars = [red, green, blue];
        Ok(())
    }

    fn normalise(&mut self, this: Resource<Fit>, mean: (f32, f32, f32), deviation: (f32, f32, f32)) -> Result<()> {
        let values = &mut self.table.get_mut(&this)?.wanted.values;
        (values.mean, values.deviation) = (mean.into(), deviation.into());
        Ok(())
    }

    fn layout(&mut self, this: Resource<Fit>, layout: String) -> Result<Outcome<()>> {
        let (order, backwards) = match layout.strip_suffix("-bgr") {
            Some(order) => (order, true),
            None => (&layout[..], false),
        };
        let interleaved = match order {
            "chw" => false,
            "hwc" => true,
            _ => return Ok(Err(failure("unknown-option", "the layout is one of chw, hwc, chw-bgr, hwc-bgr"))),
        };
        self.table.get_mut(&this)?.wanted.order = Order { interleaved, backwards };
        Ok(Ok(()))
    }

    fn crop(&mut self, this: Resource<Fit>, area: Area) -> Result<()> {
        self.table.get_mut(&this)?.wanted.area = Some(area);
        Ok(())
    }

    fn drop(&mut self, this: Resource<Fit>) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl Wanted {
    fn plan(&self, picture: &Picture) -> Outcome<Plan> {
        if self.size.contains(&0) {
            return Err(failure("invalid-shape", "the fit has no pixels"));
        }
        Plan::new([picture.width, picture.height], self.size, self.mode, self.area)
            .map_err(|InvalidArea| failure("invalid-area", "the area to crop is empty, or no area of any image"))
    }

    /// The shape of a row.
    fn shape(&self) -> [u64; 3] {
        let [width, height] = self.size.map(u64::from);
        if self.order.interleaved { [height, width, 3] } else { [3, height, width] }
    }
}

impl Guest {
    pub(super) async fn write_row(
        &mut self,
        image: Resource<Image>,
        tensor: Resource<Tensor>,
        row: u64,
        fit: Resource<Fit>,
    ) -> Result<Outcome<Mapping>> {
        let wanted = self.table.get(&fit)?.wanted;
        let picture = self.table.get(&image)?.picture.clone();
        let plan = match wanted.plan(&picture) {
            Ok(plan) => plan,
            Err(failure) => return Ok(Err(failure)),
        };
        // Checked before anything is computed, and taken again when it is written: others run in between.
        if let Err(failure) = self.table.get_mut(&tensor)?.row_mut(row, &wanted.shape()) {
            return Ok(Err(failure));
        }
        let scaled = !plan.is_empty() && plan.unscaled().is_none();
        let scratch = picture::bytes(plan.x.count, plan.y.count, picture.channels);
        let working = if scaled { scratch + resample::working_bytes(&picture, &plan) } else { 0 };
        let _working = match self.limits.charge(Kind::Images, working) {
            Ok(working) => working,
            Err(holder) => return Ok(Err(memory(holder))),
        };
        let read = if scaled { (plan.x.extent * plan.y.extent) as u64 } else { 0 };
        let work = self.begin(read + u64::from(wanted.size[0]) * u64::from(wanted.size[1])).await;
        let pixels = scaled.then(|| resample::resample(&picture, &plan, wanted.filter));
        let (bytes, stride) = match &pixels {
            Some(pixels) => (&pixels[..], plan.x.count as usize),
            None => (&picture.pixels[..], picture.width as usize),
        };
        let (x, y) = plan.unscaled().filter(|_| !scaled).unwrap_or_default();
        let pixels = Pixels { bytes, stride, channels: picture.channels, x: x as usize, y: y as usize };
        let tensor = self.table.get_mut(&tensor)?;
        let datatype = tensor.datatype();
        let written = tensor.row_mut(row, &wanted.shape()).and_then(|bytes| {
            let [width, height] = wanted.size.map(|side| side as usize);
            let target = Target { bytes, width, height, order: wanted.order };
            let unsuited = |_| failure("unknown-datatype", format!("{datatype} holds no pixels"));
            row::write(target, datatype, &wanted.values, pixels, &plan).map_err(unsuited)
        });
        self.end(work).await;
        Ok(written.map(|()| plan.mapping))
    }
}
