//! Pinned memory of a lane: what a GPU copies from and to by itself, as large as the largest batch so far.
//!
//! Owns how an input gets from its rows to the device and how an output comes back. Rows that lie in pinned memory already
//! (`staging`) and are long enough are copied from there, each into its slice of the batch; all others are gathered first.
//! Refuses to know streams: whoever asks keeps rows and memory until the device has come as far.

use tch::{Kind, Tensor};

use super::{
    datatype, device,
    forward::said,
    lane::{bytes_mut, view},
    staging::{LEAST_BYTES, Region},
};
use crate::engine::{BackendError, Input};

/// Where inputs are gathered, or an output comes to.
pub(super) struct Pinned {
    memory: Tensor,
    make: Make,
}

/// How so many bytes are made: pinned, but in tests.
type Make = fn(usize) -> Result<Tensor, BackendError>;

impl Pinned {
    pub(super) fn empty() -> Result<Self, BackendError> {
        Self::of(device::pinned)
    }

    fn of(make: Make) -> Result<Self, BackendError> {
        Ok(Self { memory: make(0)?, make })
    }

    fn at_least(&mut self, bytes: usize) -> Result<&mut Tensor, BackendError> {
        if self.memory.size().first().is_none_or(|held| (*held as usize) < bytes) {
            self.memory = (self.make)(bytes)?;
        }
        Ok(&mut self.memory)
    }

    /// A part of it as a tensor of that form.
    fn form(&self, offset: usize, shape: &[i64], kind: Kind) -> Result<Tensor, BackendError> {
        let bytes = shape.iter().product::<i64>() * kind.elt_size_in_bytes() as i64;
        let part = self.memory.f_narrow(0, offset as i64, bytes).and_then(|part| part.f_view_dtype(kind));
        part.and_then(|part| part.f_view(shape)).map_err(said)
    }

    /// Has an input put together on the device, behind what the stream has to do.
    pub(super) fn bring(
        &mut self,
        input: &Input<'_>,
        to: tch::Device,
        region: Option<&Region>,
    ) -> Result<Tensor, BackendError> {
        let kind = datatype::kind(input.spec().kind.datatype);
        let kind = kind.ok_or_else(|| BackendError::threw("a datatype that libtorch does not know"))?;
        let lies_ready = |row: &[u8]| row.len() >= LEAST_BYTES && region.is_some_and(|region| region.holds(row));
        let parts = input.parts(lies_ready);
        let gathered = parts.iter().filter(|part| part.ready.is_none()).map(|part| part.rows.len()).sum::<usize>();
        let mut shape: Vec<i64> = input.shape().iter().map(|extent| *extent as i64).collect();
        let row_bytes = input.byte_length() / (shape[0] as usize).max(1);
        let stacked = bytes_mut(self.at_least(gathered * row_bytes)?, gathered * row_bytes)?;
        let mut offset = 0;
        for part in parts.iter().filter(|part| part.ready.is_none()) {
            let bytes = part.rows.len() * row_bytes;
            input.stack_rows(part.rows.clone(), &mut stacked[offset..offset + bytes]);
            offset += bytes;
        }
        let batch = Tensor::f_empty(&shape, (kind, to)).map_err(said)?;
        offset = 0;
        for part in parts {
            shape[0] = part.rows.len() as i64;
            let mut slice = batch.f_narrow(0, part.rows.start as i64, shape[0]).map_err(said)?;
            let source = match part.ready {
                Some(row) => view(row, &shape, kind)?,
                None => self.form(offset, &shape, kind)?,
            };
            device::copy(&mut slice, &source)?;
            offset += if part.ready.is_none() { part.rows.len() * row_bytes } else { 0 };
        }
        Ok(batch)
    }

    /// Has an output copied here, behind what the stream has to do.
    pub(super) fn fetch(&mut self, output: &Tensor) -> Result<Tensor, BackendError> {
        if output.is_sparse() {
            return Err(BackendError::threw("an output is sparse"));
        }
        let kind = output.f_kind().map_err(said)?;
        let plain = output.f_contiguous().map_err(said)?;
        let shape = plain.size();
        let bytes = shape.iter().product::<i64>() as usize * kind.elt_size_in_bytes();
        if bytes == 0 {
            return Tensor::f_empty(&shape, (kind, tch::Device::Cpu)).map_err(said);
        }
        self.at_least(bytes)?;
        let mut here = self.form(0, &shape, kind)?;
        device::copy(&mut here, &plain)?;
        Ok(here)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{super::staging::PinnedStaging, *};
    use crate::{
        engine::batch::{Batch, Pad, Plan, Row},
        tensor::{Datatype, Layout, Signature, Staging as _, Tensor as Shared, TensorSpec},
    };

    /// Bytes on the processor, which are copied in the same way.
    fn plain(bytes: usize) -> Result<Tensor, BackendError> {
        Ok(Tensor::full([bytes as i64], 77, (Kind::Uint8, tch::Device::Cpu)))
    }

    fn plan(kind: &str) -> Plan {
        let spec = |name: &str| TensorSpec { name: name.into(), kind: kind.parse().unwrap(), range: None };
        let dimensions = vec![("n".into(), 100_000)];
        let signature = Signature { inputs: vec![spec("in")], outputs: vec![spec("out")], dimensions };
        Plan::new(&signature, &[Pad::new(Datatype::Uint8, 5.0).unwrap()])
    }

    /// Requests of so many rows of so many bytes each, in the region or not.
    fn requests(region: &Arc<Region>, asked: &[(usize, usize, bool)]) -> Vec<Shared> {
        let staging = PinnedStaging(region.clone());
        let request = |(number, (rows, length, pinned)): (usize, &(usize, usize, bool))| {
            let written: Vec<u8> = (0..rows * length).map(|at| (at * 31 + number * 7) as u8).collect();
            let bytes = if *pinned {
                let mut buffer = staging.zeroed(written.len());
                buffer.copy_from_slice(&written);
                buffer.freeze()
            } else {
                Bytes::from(written)
            };
            let layout = Layout::ragged(&[0], 0, &vec![*length as u64; *rows]).unwrap();
            Shared::new(Datatype::Uint8, layout, bytes).unwrap()
        };
        asked.iter().enumerate().map(request).collect()
    }

    /// How the first input's rows come to the device, and whether they are there as they would be when all are gathered.
    fn brought(region: &Arc<Region>, asked: &[(usize, usize, bool)]) -> Vec<(std::ops::Range<usize>, bool)> {
        let plan = plan("UINT8[rows, n]");
        let requests = requests(region, asked);
        let inputs: Vec<[Shared; 1]> = requests.into_iter().map(|request| [request]).collect();
        let lengths: Vec<u64> = asked.iter().map(|(_, length, _)| *length as u64).collect();
        let of_request = |(request, (rows, _, _)): (usize, &(usize, usize, bool))| {
            let (inputs, lengths) = (&inputs[request], std::slice::from_ref(&lengths[request]));
            (0..*rows).map(move |index| Row { inputs, index, lengths }).collect::<Vec<_>>()
        };
        let rows: Vec<Row<'_>> = asked.iter().enumerate().flat_map(of_request).collect();
        let batch = Batch::new(&plan, &rows);
        let input = &batch.inputs()[0];
        let mut lane = Pinned::of(plain).unwrap();
        let together = lane.bring(input, tch::Device::Cpu, Some(region)).unwrap();
        let mut expected = vec![0; input.byte_length()];
        input.stack(&mut expected);
        assert_eq!(together.size(), input.shape().iter().map(|extent| *extent as i64).collect::<Vec<_>>());
        let came: Vec<u8> = together.flatten(0, -1).try_into().unwrap();
        assert!(came == expected, "{asked:?}");
        let lies_ready = |row: &[u8]| row.len() >= LEAST_BYTES && region.holds(row);
        input.parts(lies_ready).into_iter().map(|part| (part.rows, part.ready.is_some())).collect()
    }

    #[test]
    fn long_rows_in_pinned_memory_are_copied_from_there_and_the_rest_is_gathered() {
        let region = Arc::new(Region::new(plain(4 << 20).unwrap()));
        let long = LEAST_BYTES + 3000;
        // Two rows of one request, two of plain memory, one more that is pinned.
        let mixed = brought(&region, &[(2, long, true), (1, long, false), (1, long, false), (1, long, true)]);
        assert_eq!(mixed, [(0..1, true), (1..2, true), (2..4, false), (4..5, true)]);
        assert_eq!(brought(&region, &[(1, long, false), (3, long, false)]), [(0..4, false)]);
        assert_eq!(brought(&region, &[(1, long, true)]), [(0..1, true)]);
        // What is padded is written first, wherever it lies; so are rows that are short, in however large a tensor.
        assert_eq!(brought(&region, &[(1, long, true), (1, long - 1, true)]), [(0..1, true), (1..2, false)]);
        assert_eq!(brought(&region, &[(200, 100, true)]), [(0..200, false)]);
    }

    #[test]
    fn without_pinned_memory_everything_is_gathered() {
        let plan = plan("UINT8[rows, 3]");
        let inputs =
            [Shared::new(Datatype::Uint8, Layout::fixed(&[2, 3]).unwrap(), Bytes::from_static(b"abcdef")).unwrap()];
        let rows = [0, 1].map(|index| Row { inputs: &inputs, index, lengths: &[0] });
        let batch = Batch::new(&plan, &rows);
        let mut lane = Pinned::of(plain).unwrap();
        let together = lane.bring(&batch.inputs()[0], tch::Device::Cpu, None).unwrap();
        assert_eq!(Vec::<u8>::try_from(together.flatten(0, -1)).unwrap(), b"abcdef");
        let fetched = lane.fetch(&Tensor::from_slice(&[1.5_f32, -2.0]).reshape([2, 1])).unwrap();
        assert_eq!(
            (fetched.size(), Vec::<f32>::try_from(fetched.flatten(0, -1)).unwrap()),
            (vec![2, 1], vec![1.5, -2.0])
        );
    }
}
