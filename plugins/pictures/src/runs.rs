//! Connected regions of a mask.
//!
//! Owns finding them by runs: stretches of a row that are inside. Two runs belong together where they touch along an
//! edge (four neighbours), so that an outline never meets itself. Bounded by the number of runs, not of pixels, and a
//! mask that has too many is refused: it is noise.

/// A stretch of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) y: u32,
    pub(crate) start: u32,
    /// Exclusive.
    pub(crate) end: u32,
    /// While regions are sought, another run of the same region; afterwards the region's number.
    pub(crate) label: u32,
}

/// The regions of a mask.
#[derive(Debug)]
pub struct Runs {
    pub(crate) runs: Vec<Run>,
    /// Where each row's runs begin, and the end of the last.
    pub(crate) rows: Vec<u32>,
    regions: Vec<Region>,
}

/// What is known of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// In pixels.
    pub area: u64,
    /// The mean of its pixels' middles.
    pub centroid: (f64, f64),
    /// x1, y1, x2, y2 in pixels; the last two exclusive.
    pub corners: [u32; 4],
    /// The mean of what the mask says, 0 to 1.
    pub score: f64,
    /// The run in which it begins: the uppermost, of these the left one.
    pub(crate) first: u32,
}

impl Runs {
    /// Finds the regions of pixels that are at least `least`; fails where they have more runs than `most`.
    pub fn find(mask: &[u8], width: u32, least: u8, most: usize) -> Result<Runs, TooManyRuns> {
        let (mut runs, mut rows): (Vec<Run>, Vec<u32>) = (Vec::new(), vec![0]);
        for (y, line) in (0..).zip(mask.chunks_exact((width as usize).max(1))) {
            let above = rows.last().map_or(0, |start| *start as usize)..runs.len();
            let above = if y == 0 { 0..0 } else { rows[rows.len() - 2] as usize..above.start };
            append(&mut runs, line, y, least);
            if runs.len() > most {
                return Err(TooManyRuns(most));
            }
            let here = *rows.last().expect("it has a first") as usize..runs.len();
            join(&mut runs, above, here);
            rows.push(runs.len() as u32);
        }
        let mut found = Runs { runs, rows, regions: Vec::new() };
        found.number();
        found.measure(mask, width as usize);
        Ok(found)
    }

    /// All regions, from top to bottom.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// A mask of the regions that `wanted` says by number: 255 inside, 0 outside.
    pub fn mask(&self, width: u32, wanted: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut mask = vec![0; width as usize * (self.rows.len() - 1)];
        for run in self.runs.iter().filter(|run| wanted(run.label as usize)) {
            let line = run.y as usize * width as usize;
            mask[line + run.start as usize..line + run.end as usize].fill(255);
        }
        mask
    }

    /// The run at a pixel; none outside of all.
    pub(crate) fn at(&self, x: i64, y: i64) -> Option<usize> {
        let (x, y) = (u32::try_from(x).ok()?, usize::try_from(y).ok()?);
        let (from, until) = (*self.rows.get(y)? as usize, *self.rows.get(y + 1)? as usize);
        let line = &self.runs[from..until];
        let behind = line.partition_point(|run| run.start <= x);
        let run = behind.checked_sub(1)?;
        (line[run].end > x).then_some(from + run)
    }

    /// Names of regions become numbers, in order of their first runs.
    fn number(&mut self) {
        let mut regions = 0;
        for index in 0..self.runs.len() {
            // A run's root is itself or before it, so its label is a number already.
            let parent = self.runs[index].label as usize;
            self.runs[index].label = if parent == index {
                regions += 1;
                regions - 1
            } else {
                self.runs[parent].label
            };
        }
        let empty =
            Region { area: 0, centroid: (0.0, 0.0), corners: [u32::MAX, u32::MAX, 0, 0], score: 0.0, first: u32::MAX };
        self.regions = vec![empty; regions as usize];
    }

    fn measure(&mut self, mask: &[u8], width: usize) {
        for (index, run) in (0..).zip(&self.runs) {
            let region = &mut self.regions[run.label as usize];
            let length = u64::from(run.end - run.start);
            let line = &mask[run.y as usize * width..][run.start as usize..run.end as usize];
            region.first = region.first.min(index);
            region.area += length;
            region.centroid.0 += (f64::from(run.start) + f64::from(run.end)) / 2.0 * length as f64;
            region.centroid.1 += (f64::from(run.y) + 0.5) * length as f64;
            region.score += line.iter().map(|sure| u64::from(*sure)).sum::<u64>() as f64;
            let [x1, y1, x2, y2] = region.corners;
            region.corners = [x1.min(run.start), y1.min(run.y), x2.max(run.end), y2.max(run.y + 1)];
        }
        for region in &mut self.regions {
            let area = region.area as f64;
            region.centroid = (region.centroid.0 / area, region.centroid.1 / area);
            region.score /= area * 255.0;
        }
    }
}

/// The mask has more runs than may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRuns(pub usize);

fn append(runs: &mut Vec<Run>, line: &[u8], y: u32, least: u8) {
    let mut x = 0;
    while let Some(start) = line[x..].iter().position(|sure| *sure >= least).map(|ahead| x + ahead) {
        let end = line[start..].iter().position(|sure| *sure < least).map_or(line.len(), |ahead| start + ahead);
        let label = runs.len() as u32;
        runs.push(Run { y, start: start as u32, end: end as u32, label });
        x = end;
    }
}

/// Joins the runs of a row with those above that they touch. The root of a region is its first run, so that roots are
/// always before what belongs to them.
fn join(runs: &mut [Run], above: std::ops::Range<usize>, here: std::ops::Range<usize>) {
    let (mut upper, mut lower) = (above.start, here.start);
    while upper < above.end && lower < here.end {
        let (a, b) = (runs[upper], runs[lower]);
        if a.start < b.end && b.start < a.end {
            let (a, b) = (root(runs, upper), root(runs, lower));
            runs[a.max(b)].label = a.min(b) as u32;
        }
        if a.end < b.end { upper += 1 } else { lower += 1 }
    }
}

fn root(runs: &mut [Run], mut index: usize) -> usize {
    while runs[index].label as usize != index {
        // Halves the way for whoever comes next.
        let above = runs[index].label as usize;
        runs[index].label = runs[above].label;
        index = above;
    }
    index
}

#[cfg(test)]
#[path = "runs_tests.rs"]
pub(crate) mod tests;
