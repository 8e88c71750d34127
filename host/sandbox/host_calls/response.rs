//! `response`: an answer being written. By hand, so that each `write` is one copy from guest memory.

use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource, ResourceType, WasmList},
};

use super::{failure, headers, memory};
use crate::{
    account::{ChargedBytes, Kind},
    invocation::Response,
    sandbox::{bindings::types::Failure, compiler::VERSION, limits::HANDLE_BYTES, store::Guest, trap::Violation},
};

/// An answer that the guest has not given yet.
pub struct Draft {
    status: u16,
    content_type: String,
    headers: Vec<(String, String)>,
    /// Headers and content type are charged with it. `None` only while it grows.
    body: Option<ChargedBytes>,
}

impl Draft {
    /// Lets go of everything but the handle.
    pub(in crate::sandbox) fn clear(&mut self) {
        self.headers.clear();
        self.body = None;
    }

    /// The body, to write more of it.
    pub(in crate::sandbox) fn body_mut(&mut self) -> Option<&mut ChargedBytes> {
        self.body.as_mut()
    }

    /// The answer, or what about it breaks the contract.
    pub(in crate::sandbox) fn finish(self) -> std::result::Result<Response, String> {
        let Self { status, content_type, headers, body } = self;
        if !(200..300).contains(&status) {
            return Err(format!("a response has a status of 200 to 299, not {status}; refusals are rejections"));
        }
        let (body, charge) = body.map(ChargedBytes::finish).unzip();
        Ok(Response { status, content_type, headers, body: body.unwrap_or_default(), charge })
    }
}

type Store<'a> = StoreContextMut<'a, Guest>;
type Outcome = std::result::Result<(), Failure>;

/// Registers the interface.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut instance = linker.instance(&format!("tenon:plugin/response@{VERSION}"))?;
    instance.resource("response", ResourceType::host::<Draft>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Draft>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[constructor]response", |mut store: Store<'_>, (status, content_type): (u16, String)| {
        headers::check("content-type", &content_type).map_err(Violation)?;
        let guest = store.data_mut();
        let charge = guest.limits.charge(Kind::Response, HANDLE_BYTES + content_type.len() as u64);
        let charge = charge.map_err(|_| Violation("no memory is left for a response".into()))?;
        let body = Some(ChargedBytes::new(charge));
        Ok((guest.table.push(Draft { status, content_type, headers: Vec::new(), body })?,))
    })?;
    instance.func_wrap(
        "[method]response.header",
        |mut store: Store<'_>, (this, name, value): (Resource<Draft>, String, String)| {
            let checked = check_header(store.data().table.get(&this)?, &name, &value);
            let added = match checked {
                Ok(()) => grow(&mut store, &this, (name.len() + value.len()) as u64)?,
                Err(failure) => Err(failure),
            };
            if added.is_ok() {
                store.data_mut().table.get_mut(&this)?.headers.push((name.to_ascii_lowercase(), value));
            }
            Ok((added,))
        },
    )?;
    instance
        .func_wrap("[method]response.write", |mut store: Store<'_>, (this, data): (Resource<Draft>, WasmList<u8>)| {
            Ok((write(&mut store, &this, &data)?,))
        })
}

fn check_header(draft: &Draft, name: &str, value: &str) -> Outcome {
    if draft.headers.len() >= headers::MAX_HEADERS {
        return Err(failure("invalid-header", format!("at most {} headers", headers::MAX_HEADERS)));
    }
    if name.eq_ignore_ascii_case("content-type") {
        return Err(failure("invalid-header", "the content type is given to the constructor"));
    }
    headers::check(name, value).map_err(|detail| failure("invalid-header", detail))
}

/// Charges what a header is about to take.
fn grow(store: &mut Store<'_>, this: &Resource<Draft>, bytes: u64) -> Result<Outcome> {
    let guest = store.data_mut();
    let grown = guest.table.get_mut(this)?.body.as_mut().map_or(Ok(()), |body| body.charge().grow(bytes));
    Ok(grown.map_err(|over| memory(guest.limits.refuse(over))))
}

/// Charges, then copies. The list borrows the store, so the draft's body leaves the table while it grows.
fn write(store: &mut Store<'_>, this: &Resource<Draft>, data: &WasmList<u8>) -> Result<Outcome> {
    let mut body = store.data_mut().table.get_mut(this)?.body.take();
    let written = body.as_mut().map_or(Ok(()), |body| body.extend(data.as_le_slice(&*store), usize::MAX));
    let guest = store.data_mut();
    guest.table.get_mut(this)?.body = body;
    Ok(written.map_err(|over| memory(guest.limits.refuse(over))))
}
