//! `request`: what the caller sent. By hand, because the body crosses as `Bytes`, with one copy, only when asked for.

use bytes::Bytes;
use wasmtime::{
    Result, StoreContextMut,
    component::{Linker, Resource, ResourceType},
};

use crate::{
    invocation::Request,
    sandbox::{compiler::VERSION, store::Guest},
};

/// The guest's handle of the one request of its invocation.
pub struct Handle;

type Store<'a> = StoreContextMut<'a, Guest>;
type This = (Resource<Handle>,);

/// The request, if the handle is one that was lent.
fn request<'a>(store: &'a Store<'_>, this: &Resource<Handle>) -> Result<&'a Request> {
    store.data().table.get(this)?;
    Ok(&store.data().assignment.request)
}

/// Registers the interface.
pub(in crate::sandbox) fn add_to_linker(linker: &mut Linker<Guest>) -> Result<()> {
    let mut instance = linker.instance(&format!("tenon:plugin/request@{VERSION}"))?;
    instance.resource("request", ResourceType::host::<Handle>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Handle>::new_own(rep))?;
        Ok(())
    })?;
    instance.func_wrap("[method]request.method", |store: Store<'_>, (this,): This| {
        Ok((request(&store, &this)?.method.clone(),))
    })?;
    instance.func_wrap("[method]request.path", |store: Store<'_>, (this,): This| {
        Ok((request(&store, &this)?.path.clone(),))
    })?;
    instance.func_wrap("[method]request.query", |store: Store<'_>, (this,): This| {
        Ok((request(&store, &this)?.query.clone(),))
    })?;
    instance.func_wrap("[method]request.header", |store: Store<'_>, (this, name): (Resource<Handle>, String)| {
        let headers = &request(&store, &this)?.headers;
        let found = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
        Ok((found.map(|(_, value)| value.clone()),))
    })?;
    instance.func_wrap("[method]request.headers", |store: Store<'_>, (this,): This| {
        Ok((request(&store, &this)?.headers.clone(),))
    })?;
    instance.func_wrap("[method]request.tenant", |store: Store<'_>, (this,): This| {
        request(&store, &this)?;
        Ok((store.data().assignment.invocation.tenant.to_string(),))
    })?;
    instance.func_wrap("[method]request.body-size", |store: Store<'_>, (this,): This| {
        Ok((request(&store, &this)?.body.len() as u64,))
    })?;
    instance.func_wrap("[method]request.body", |store: Store<'_>, (this,): This| {
        Ok((request(&store, &this)?.body.clone(),))
    })?;
    instance.func_wrap(
        "[method]request.read-body",
        |store: Store<'_>, (this, offset, length): (Resource<Handle>, u64, u64)| {
            Ok((part(&request(&store, &this)?.body, offset, length),))
        },
    )?;
    instance.func_wrap("[method]request.time-left-ms", |store: Store<'_>, (this,): This| {
        request(&store, &this)?;
        Ok((store.data().assignment.invocation.time_left().as_millis() as u64,))
    })
}

/// Up to `length` bytes from `offset` on; less, or none, at the end.
fn part(body: &Bytes, offset: u64, length: u64) -> Bytes {
    let size = body.len() as u64;
    let start = offset.min(size);
    let end = start.saturating_add(length).min(size);
    body.slice(start as usize..end as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_past_the_end_are_short() {
        let body = Bytes::from_static(b"abc");
        for (offset, length, expected) in [
            (0, 3, "abc"),
            (1, 1, "b"),
            (2, 9, "c"),
            (3, 1, ""),
            (9, 1, ""),
            (1, u64::MAX, "bc"),
            (u64::MAX, u64::MAX, ""),
        ] {
            assert_eq!(part(&body, offset, length), expected.as_bytes());
        }
    }
}
