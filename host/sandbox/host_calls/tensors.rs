//! `tensors`: bytes that live in the host. By hand, because bindgen knows neither `WasmList` nor `Bytes`: each copy here
//! is the only one on its way.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource, ResourceType, WasmList},
};

use super::{failure, memory};
use crate::{
    account::{Charge, Kind},
    sandbox::{bindings::types::Failure, compiler::VERSION, limits::HANDLE_BYTES, store::Guest},
    tensor::{Buffer, Datatype, Layout, Tensor as Shared},
};

/// Rows of one ragged tensor.
const MAX_RAGGED_ROWS: usize = 1 << 16;
/// What the host keeps for each of them: a length and where it starts.
const BYTES_PER_RAGGED_ROW: u64 = 16;

/// A tensor that a guest holds a handle of.
pub struct Tensor {
    datatype: Datatype,
    layout: Layout,
    content: Content,
    charge: Arc<Charge>,
    /// What stands behind the handle alone, where the bytes are also others'.
    _handle: Option<Charge>,
}

enum Content {
    /// The guest writes.
    Staged(Buffer),
    /// Given to an inference, or made by the host: shared and read-only.
    Sealed(Bytes),
}

impl Tensor {
    /// A tensor that the host made.
    pub(in crate::sandbox) fn sealed(tensor: Shared, charge: Arc<Charge>, handle: Option<Charge>) -> Self {
        let Shared { datatype, layout, bytes } = tensor;
        Self { datatype, layout, content: Content::Sealed(bytes), charge, _handle: handle }
    }

    /// Ends writing and shares the bytes.
    pub(in crate::sandbox) fn seal(&mut self) -> (Shared, Arc<Charge>) {
        if let Content::Staged(buffer) = &mut self.content {
            let buffer = std::mem::replace(buffer, Buffer::new([]));
            self.content = Content::Sealed(buffer.freeze());
        }
        let bytes = match &self.content {
            Content::Sealed(bytes) => bytes.clone(),
            Content::Staged(_) => Bytes::new(),
        };
        (Shared { datatype: self.datatype, layout: self.layout.clone(), bytes }, self.charge.clone())
    }

    /// The type of the elements.
    pub(in crate::sandbox) fn datatype(&self) -> Datatype {
        self.datatype
    }

    /// A row to be written, if its shape is `shape`.
    pub(in crate::sandbox) fn row_mut(&mut self, row: u64, shape: &[u64]) -> Outcome<&mut [u8]> {
        if self.layout.lengths().is_some() || self.layout.row_shape() != shape {
            let found = self.layout.row_shape();
            return Err(failure(
                "invalid-shape",
                format!("a row has to be {shape:?}, those of the tensor are {found:?}"),
            ));
        }
        if row >= self.layout.rows() as u64 {
            let detail = format!("row {row} lies outside the tensor's {} rows", self.layout.rows());
            return Err(failure("out-of-bounds", detail));
        }
        let range = self.layout.row_range(row as usize, self.datatype);
        match &mut self.content {
            Content::Staged(buffer) => Ok(&mut buffer[range]),
            Content::Sealed(_) => Err(sealed()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::Staged(buffer) => buffer,
            Content::Sealed(bytes) => bytes,
        }
    }
}

type Store<'a> = StoreContextMut<'a, Guest>;
type This = (Resource<Tensor>,);
type Outcome<T> = std::result::Result<T, Failure>;

/// Registers the interface.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut instance = linker.instance(&format!("tenon:plugin/tensors@{VERSION}"))?;
    instance.resource("tensor", ResourceType::host::<Tensor>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Tensor>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[static]tensor.create", |mut store: Store<'_>, (datatype, shape): (String, Vec<u64>)| {
        let layout = Layout::fixed(&shape).map_err(|error| failure("invalid-shape", error.to_string()));
        Ok((create(&mut store, &datatype, layout)?,))
    })?;
    instance.func_wrap(
        "[static]tensor.create-ragged",
        |mut store: Store<'_>, (datatype, row_shape, axis, lengths): (String, Vec<u64>, u32, Vec<u64>)| {
            let layout = if lengths.len() > MAX_RAGGED_ROWS {
                Err(failure("invalid-shape", format!("a ragged tensor has at most {MAX_RAGGED_ROWS} rows")))
            } else {
                let layout = Layout::ragged(&row_shape, axis as usize, &lengths);
                layout.map_err(|error| failure("invalid-shape", error.to_string()))
            };
            Ok((create(&mut store, &datatype, layout)?,))
        },
    )?;
    instance.func_wrap("[method]tensor.datatype", |store: Store<'_>, (this,): This| {
        Ok((store.data().table.get(&this)?.datatype.name().to_owned(),))
    })?;
    instance.func_wrap("[method]tensor.shape", |store: Store<'_>, (this,): This| {
        Ok((store.data().table.get(&this)?.layout.shape(),))
    })?;
    instance.func_wrap("[method]tensor.axis", |store: Store<'_>, (this,): This| {
        let lengths = store.data().table.get(&this)?.layout.lengths();
        Ok((lengths.map(|(axis, _)| axis as u32),))
    })?;
    instance.func_wrap("[method]tensor.lengths", |store: Store<'_>, (this,): This| {
        let lengths = store.data().table.get(&this)?.layout.lengths();
        Ok((lengths.map(|(_, lengths)| lengths.to_vec()),))
    })?;
    instance.func_wrap("[method]tensor.size", |store: Store<'_>, (this,): This| {
        Ok((store.data().table.get(&this)?.bytes().len() as u64,))
    })?;
    instance.func_wrap(
        "[method]tensor.write",
        |mut store: Store<'_>, (this, offset, data): (Resource<Tensor>, u64, WasmList<u8>)| {
            Ok((write(&mut store, &this, offset, &data)?,))
        },
    )?;
    instance.func_wrap(
        "[method]tensor.read",
        |store: Store<'_>, (this, offset, length): (Resource<Tensor>, u64, u64)| {
            Ok((read(store.data().table.get(&this)?, offset, length),))
        },
    )
}

/// A tensor of zeros, charged before its memory is taken.
fn create(store: &mut Store<'_>, datatype: &str, layout: Outcome<Layout>) -> Result<Outcome<Resource<Tensor>>> {
    let planned = layout.and_then(|layout| {
        let datatype = datatype.parse::<Datatype>().map_err(|error| failure("unknown-datatype", error.to_string()))?;
        let bytes = layout.byte_length(datatype).map_err(|error| failure("invalid-shape", error.to_string()))?;
        Ok((datatype, layout, bytes))
    });
    let (datatype, layout, bytes) = match planned {
        Ok(planned) => planned,
        Err(failure) => return Ok(Err(failure)),
    };
    let guest = store.data_mut();
    let rows = layout.lengths().map_or(0, |(_, lengths)| lengths.len() as u64);
    let beside = HANDLE_BYTES + rows * BYTES_PER_RAGGED_ROW;
    let charge = match guest.limits.charge(Kind::Tensors, bytes.saturating_add(beside)) {
        Ok(charge) => Arc::new(charge),
        Err(holder) => return Ok(Err(memory(holder))),
    };
    let content = Content::Staged(guest.staging.zeroed(bytes as usize));
    Ok(Ok(guest.table.push(Tensor { datatype, layout, content, charge, _handle: None })?))
}

/// The list borrows the store, so the buffer leaves the table while it is filled.
fn write(store: &mut Store<'_>, this: &Resource<Tensor>, offset: u64, data: &WasmList<u8>) -> Result<Outcome<()>> {
    let Content::Staged(staged) = &mut store.data_mut().table.get_mut(this)?.content else {
        return Ok(Err(sealed()));
    };
    let mut buffer = std::mem::replace(staged, Buffer::new([]));
    let source = data.as_le_slice(&*store);
    let size = buffer.len();
    let target = usize::try_from(offset).ok().and_then(|start| buffer.get_mut(start..)?.get_mut(..source.len()));
    let written = match target {
        Some(target) => {
            target.copy_from_slice(source);
            Ok(())
        }
        None => Err(out_of_bounds(offset, source.len() as u64, size)),
    };
    store.data_mut().table.get_mut(this)?.content = Content::Staged(buffer);
    Ok(written)
}

fn sealed() -> Failure {
    failure("sealed", "a tensor that an inference or the host shares cannot be written")
}

/// Sealed tensors are read with one copy, into the guest; one that is still written to needs a second.
fn read(tensor: &Tensor, offset: u64, length: u64) -> Outcome<Bytes> {
    let size = tensor.bytes().len();
    let end = offset.checked_add(length).filter(|end| *end <= size as u64);
    let Some(end) = end else { return Err(out_of_bounds(offset, length, size)) };
    let range = offset as usize..end as usize;
    Ok(match &tensor.content {
        Content::Sealed(bytes) => bytes.slice(range),
        Content::Staged(buffer) => Bytes::copy_from_slice(&buffer[range]),
    })
}

fn out_of_bounds(offset: u64, length: u64, size: usize) -> Failure {
    failure("out-of-bounds", format!("{length} bytes from {offset} on lie outside the tensor's {size} bytes"))
}
