//! A model in a bare loop: libtorch on one thread, batches stacked and padded before the clock runs, nothing between two
//! calls of `forward`. What a lane can come to at best, and which batch gets there.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tch::{CModule, Device, Kind, Tensor};

/// Batches that are tried.
const SIZES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// How long each is tried.
const TRY: Duration = Duration::from_millis(1200);
/// An id as good as any.
const ID: i64 = 2000;
/// Colours and pixels of a picture.
const PICTURE: [i64; 3] = [3, 64, 64];

/// What a row is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row {
    /// So many ids for the encoder.
    Ids(usize),
    /// A picture for the net.
    Picture,
}

impl Row {
    /// Elements of the ragged dimension; a row without one counts as one.
    fn elements(self) -> usize {
        match self {
            Self::Ids(length) => length,
            Self::Picture => 1,
        }
    }
}

/// How rows are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batching {
    pub(crate) size: usize,
    /// Those of about one length together: what a loop can do that knows all rows beforehand.
    pub(crate) sorted: bool,
}

/// A model, and rows that it goes through over and over.
pub(crate) struct Bare<'a> {
    module: CModule,
    rows: &'a [Row],
    /// So many are in flight at a time elsewhere, and are sorted together here.
    in_flight: usize,
}

impl<'a> Bare<'a> {
    /// Of whole groups of `in_flight` rows.
    pub(crate) fn new(file: &Path, rows: &'a [Row], in_flight: usize) -> Self {
        // Of this thread alone, as on a lane's.
        tch::set_num_threads(1);
        let mut module = CModule::load(file).expect("the model is there");
        module.f_set_eval().expect("it can be told to infer");
        assert_eq!(rows.len() % in_flight, 0, "whole groups");
        Self { module, rows, in_flight }
    }

    /// The fastest way to put rows together, and each one's real elements per second.
    pub(crate) fn best(&self) -> Batching {
        let is_ragged = self.rows.iter().any(|row| row.elements() != self.rows[0].elements());
        let orders = if is_ragged { &[false, true][..] } else { &[false] };
        let all = SIZES.iter().flat_map(|size| orders.iter().map(|sorted| Batching { size: *size, sorted: *sorted }));
        let paces = all.map(|batching| (batching, self.pace(batching, TRY)));
        paces.max_by(|a, b| a.1.total_cmp(&b.1)).expect("there are sizes").0
    }

    /// Real elements per second: whole rounds through the rows, until the time is up.
    pub(crate) fn pace(&self, batching: Batching, time: Duration) -> f64 {
        let _no_grad = tch::no_grad_guard();
        let groups: Vec<Vec<Vec<Tensor>>> =
            self.rows.chunks(self.in_flight).map(|group| batches(group, batching)).collect();
        // The first runs of a shape pay for what only first runs cost.
        groups[0].iter().for_each(|inputs| self.run(inputs));
        let start = Instant::now();
        let mut elements = 0;
        for (batches, rows) in groups.iter().zip(self.rows.chunks(self.in_flight)).cycle() {
            batches.iter().for_each(|inputs| self.run(inputs));
            elements += rows.iter().map(|row| row.elements()).sum::<usize>();
            if start.elapsed() >= time {
                break;
            }
        }
        elements as f64 / start.elapsed().as_secs_f64()
    }

    fn run(&self, inputs: &[Tensor]) {
        drop(self.module.forward_ts(inputs).expect("the model runs"));
    }
}

fn batches(group: &[Row], batching: Batching) -> Vec<Vec<Tensor>> {
    let mut group = group.to_vec();
    if batching.sorted {
        group.sort_by_key(|row| row.elements());
    }
    group.chunks(batching.size).map(inputs).collect()
}

/// Dense inputs of a batch, padded to its longest row.
fn inputs(rows: &[Row]) -> Vec<Tensor> {
    let count = rows.len() as i64;
    if matches!(rows[0], Row::Picture) {
        let shape: Vec<_> = [count].into_iter().chain(PICTURE).collect();
        return vec![Tensor::full(shape, 0.5, (Kind::Float, Device::Cpu))];
    }
    let longest = rows.iter().map(|row| row.elements()).max().unwrap_or(0);
    let filled = |value: i64| {
        let row = |row: &Row| (0..longest).map(|at| if at < row.elements() { value } else { 0 }).collect::<Vec<_>>();
        Tensor::from_slice(&rows.iter().flat_map(row).collect::<Vec<_>>()).view([count, longest as i64])
    };
    vec![filled(ID), filled(1), filled(0)]
}
