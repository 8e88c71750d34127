//! `pen`, and `image.draw-box` and `draw-polygon`: what is drawn with which options, piece by piece.

use std::sync::Arc;

use tiny_skia::FillRule;
use wasmtime::{Result, component::Resource};

use super::{
    Image, label,
    picture::Picture,
    shapes::{Ink, Shape, Tile, frame, tiles},
};
use crate::{
    account::{Account, Charge, Kind},
    sandbox::{
        bindings::images::{Area, HostPen, Point},
        store::Guest,
        trap::Violation,
    },
};

/// The widest line.
const MAX_WIDTH: f32 = 1000.0;
/// What a point of a ring takes until it is drawn: itself and the path; and where there is a line, the outline on both of
/// its sides with its corners, which is held as a path and as a list of edges.
const POINT_BYTES: u64 = 256;
const LINE_POINT_BYTES: u64 = 1200;
/// The most points of a call, as `draw-polygon` says. Edges are kept in order as they cross, so work can grow with the
/// square of their number, and one piece of it cannot be interrupted.
const MAX_POINTS: u64 = 16_384;
/// Work on a point of a ring, in pixels that take as long.
const POINT_PIXELS: u64 = 20;

/// How the guest wants to draw.
pub struct Pen {
    wanted: Wanted,
    _handle: Charge,
}

/// What a pen says.
#[derive(Clone)]
struct Wanted {
    colour: [u8; 3],
    width: f32,
    fill: f32,
    label: String,
}

impl Pen {
    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self, account: &Arc<Account>) {
        self.wanted.label = String::new();
        self._handle = account.nothing(Kind::Handles);
    }
}

impl Wanted {
    fn line(&self) -> Ink {
        Ink { colour: self.colour, opacity: 1.0 }
    }

    fn inside(&self) -> Ink {
        Ink { colour: self.colour, opacity: self.fill }
    }

    fn is_grey(&self) -> bool {
        self.colour[0] == self.colour[1] && self.colour[1] == self.colour[2]
    }
}

/// A number within bounds, and the lower one where it is none.
fn bounded(number: f32, most: f32) -> f32 {
    if number > 0.0 { number.min(most) } else { 0.0 }
}

impl HostPen for Guest {
    fn new(&mut self) -> Result<Resource<Pen>> {
        let handle = self.limits.handle()?;
        let wanted = Wanted { colour: [0, 255, 0], width: 2.0, fill: 0.0, label: String::new() };
        Ok(self.table.push(Pen { wanted, _handle: handle })?)
    }

    fn colour(&mut self, this: Resource<Pen>, red: u8, green: u8, blue: u8) -> Result<()> {
        self.table.get_mut(&this)?.wanted.colour = [red, green, blue];
        Ok(())
    }

    fn width(&mut self, this: Resource<Pen>, pixels: f32) -> Result<()> {
        self.table.get_mut(&this)?.wanted.width = bounded(pixels, MAX_WIDTH);
        Ok(())
    }

    fn fill(&mut self, this: Resource<Pen>, opacity: f32) -> Result<()> {
        self.table.get_mut(&this)?.wanted.fill = bounded(opacity, 1.0);
        Ok(())
    }

    fn label(&mut self, this: Resource<Pen>, text: String) -> Result<()> {
        self.table.get_mut(&this)?.wanted.label = label::printable(&text);
        Ok(())
    }

    fn drop(&mut self, this: Resource<Pen>) -> Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl Guest {
    pub(super) async fn paint_box(&mut self, image: Resource<Image>, area: Area, pen: Resource<Pen>) -> Result<()> {
        let pen = self.table.get(&pen)?.wanted.clone();
        let edges = [area.start.x, area.start.y, area.end.x, area.end.y];
        if edges.iter().any(|edge| edge.is_nan()) || edges[2] < edges[0] || edges[3] < edges[1] {
            return Ok(());
        }
        self.colourful(&image, &pen).await?;
        let half = pen.width / 2.0;
        let grown = |by: f32| [edges[0] - by, edges[1] - by, edges[2] + by, edges[3] + by];
        let (outer, inner) = (grown(half), grown(-half));
        let hollow = (inner[0] < inner[2] && inner[1] < inner[3]).then_some(inner);
        let picture = &*self.picture(&image)?;
        let touched = |area: [f32; 4]| Tile::touched(picture, area).map_or(0, Tile::pixels);
        let (filled, line) = (touched(edges), touched(outer) - hollow.map_or(0, touched));
        if pen.fill > 0.0 {
            let work = self.begin(filled).await;
            frame(self.picture(&image)?, edges, None, pen.inside());
            self.end(work).await;
        }
        if pen.width > 0.0 {
            let work = self.begin(line).await;
            frame(self.picture(&image)?, outer, hollow, pen.line());
            self.end(work).await;
        }
        self.paint_label(&image, &pen, [outer[0], outer[1]]).await
    }

    pub(super) async fn paint_rings(
        &mut self,
        image: Resource<Image>,
        rings: Vec<Vec<Point>>,
        pen: Resource<Pen>,
    ) -> Result<()> {
        let pen = self.table.get(&pen)?.wanted.clone();
        self.colourful(&image, &pen).await?;
        let points = rings.iter().map(|ring| ring.len() as u64 + 1).sum::<u64>();
        if points > MAX_POINTS {
            return Err(Violation(format!("rings to draw have {points} points, at most {MAX_POINTS} are drawn")).into());
        }
        let each = if pen.width > 0.0 { LINE_POINT_BYTES } else { POINT_BYTES };
        let _points = self.limits.charge(Kind::Images, points * each).map_err(no_memory)?;
        let work = self.begin(points * POINT_PIXELS).await;
        let inside = Shape::inside(&rings);
        let outline = inside.as_ref().filter(|_| pen.width > 0.0).and_then(|inside| inside.outline(pen.width));
        self.end(work).await;
        let Some(inside) = inside else { return Ok(()) };
        if pen.fill > 0.0 {
            self.paint_shape(&image, &inside, points, (FillRule::EvenOdd, pen.inside())).await?;
        }
        if let Some(outline) = &outline {
            self.paint_shape(&image, outline, points, (FillRule::Winding, pen.line())).await?;
        }
        let bounds = outline.as_ref().unwrap_or(&inside).bounds();
        self.paint_label(&image, &pen, [bounds[0], bounds[1]]).await
    }

    async fn paint_shape(
        &mut self,
        image: &Resource<Image>,
        shape: &Shape,
        points: u64,
        (rule, ink): (FillRule, Ink),
    ) -> Result<()> {
        let Some(touched) = Tile::touched(self.picture(image)?, shape.bounds()) else { return Ok(()) };
        for tile in tiles(touched) {
            // Every tile looks at all points.
            let work = self.begin(tile.pixels() + points * POINT_PIXELS).await;
            shape.paint(self.picture(image)?, tile, rule, ink);
            self.end(work).await;
        }
        Ok(())
    }

    async fn paint_label(&mut self, image: &Resource<Image>, pen: &Wanted, corner: [f32; 2]) -> Result<()> {
        if pen.label.is_empty() {
            return Ok(());
        }
        let picture = self.picture(image)?;
        let area = label::place(picture, &pen.label, pen.width, corner);
        let pixels = Tile::touched(picture, area).map_or(0, Tile::pixels);
        let work = self.begin(pixels).await;
        label::draw(self.picture(image)?, &pen.label, pen.width, area, pen.colour);
        self.end(work).await;
        Ok(())
    }

    /// Gives a grey picture its colours, if the pen has any.
    async fn colourful(&mut self, image: &Resource<Image>, pen: &Wanted) -> Result<()> {
        let held = self.table.get_mut(image)?;
        let grey = held.picture.pixels.len() as u64;
        if held.picture.channels != 1 || pen.is_grey() {
            return Ok(());
        }
        let mut charge = self.limits.charge(Kind::Images, 3 * grey).map_err(no_memory)?;
        let work = self.begin(grey).await;
        let held = self.table.get_mut(image)?;
        let picture = std::mem::take(&mut held.picture);
        held.picture = Arc::unwrap_or_clone(picture).in_colour().into();
        std::mem::swap(&mut held.charge, &mut charge);
        drop(charge);
        self.end(work).await;
        Ok(())
    }

    /// The picture behind a handle, to be drawn on.
    fn picture(&mut self, image: &Resource<Image>) -> Result<&mut Picture> {
        let picture = &mut self.table.get_mut(image)?.picture;
        Ok(Arc::get_mut(picture).expect("a guest is in one call at a time, and this one shares no picture"))
    }
}

/// Drawing has no failure to answer with.
fn no_memory(_: crate::account::Holder) -> Violation {
    Violation("no memory is left to draw with".into())
}
