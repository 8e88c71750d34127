//! Sockets that a supervisor opened and left to this process: systemd's `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`.
//!
//! Owns those variables. Sockets go by their names, `data` and `control`, and never by their order: a unit whose lines
//! change places must not put the control plane where callers come in.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use listenfd::ListenFd;

use super::{HandoverError, PLANES, Planes, adopt, agrees};

/// Sockets at most; there are two planes, and the number comes from outside.
const MAX_SOCKETS: usize = 2;

/// What this process was given, by plane.
#[derive(Debug, Default)]
pub struct Activated(BTreeMap<usize, TcpListener>);

impl Activated {
    /// Takes what is there. To be called once, before there are threads: the variables are removed, so that nobody takes
    /// the same descriptors again.
    pub fn from_environment() -> Result<Self, HandoverError> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let planes = planes(variable, std::process::id())?;
        if planes.is_empty() {
            return Ok(Self::default());
        }
        let mut given = ListenFd::from_env();
        let mut taken = BTreeMap::new();
        for (place, plane) in planes.into_iter().enumerate() {
            let no_listener = |reason: String| HandoverError::NoListener { plane: PLANES[plane].0, reason };
            let listener = given.take_tcp_listener(place).map_err(|error| no_listener(error.to_string()))?;
            taken.insert(plane, listener.ok_or_else(|| no_listener("it is not there".into()))?);
        }
        Ok(Self(taken))
    }

    /// Whether they listen where the configuration says, which can be told before anything is loaded.
    pub fn check(&self, addresses: Planes<SocketAddr>) -> Result<(), HandoverError> {
        self.0.iter().try_for_each(|(plane, listener)| agrees(*plane, addresses[*plane], listener.local_addr()?))
    }

    /// The sockets, held against the configuration; none for a plane that is to be bound as usual.
    pub fn take(
        mut self,
        addresses: Planes<SocketAddr>,
        backlog: u32,
    ) -> Result<Planes<Option<TcpListener>>, HandoverError> {
        let mut take = |plane: usize| {
            let listener = self.0.remove(&plane);
            listener.map(|it| adopt(plane, OwnedFd::from(it), addresses[plane], backlog)).transpose()
        };
        Ok([take(0)?, take(1)?])
    }
}

/// For which plane each descriptor is; none where they are another process's or there are none.
fn planes(variable: impl Fn(&str) -> String, ours: u32) -> Result<Vec<usize>, HandoverError> {
    let wrong = |what: String| HandoverError::Activation(what);
    let (count, pid, names) = (variable("LISTEN_FDS"), variable("LISTEN_PID"), variable("LISTEN_FDNAMES"));
    if count.is_empty() || pid.parse() != Ok(ours) {
        return Ok(Vec::new());
    }
    let count = count.parse::<usize>().ok().filter(|count| *count <= MAX_SOCKETS);
    let count = count.ok_or_else(|| wrong(format!("LISTEN_FDS is no number up to {MAX_SOCKETS}")))?;
    let names: Vec<_> = names.split(':').filter(|name| !name.is_empty()).collect();
    let planes = names.iter().map(|name| PLANES.iter().position(|(plane, _)| plane == name));
    match planes.collect::<Option<Vec<_>>>() {
        Some(planes) if planes.len() == count && (count < 2 || planes[0] != planes[1]) => Ok(planes),
        _ => Err(wrong(
            "sockets of a supervisor go by name: LISTEN_FDNAMES must have `data` and `control`, each once, one for \
             each of LISTEN_FDS (in a systemd socket unit: FileDescriptorName=data)"
                .into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_by_name() {
        let read = |count: &str, pid: &str, names: &str| {
            let variables = [("LISTEN_FDS", count), ("LISTEN_PID", pid), ("LISTEN_FDNAMES", names)];
            let variables: BTreeMap<_, _> = variables.into_iter().collect();
            planes(|name| variables[name].to_owned(), 7).map_err(|error| error.to_string())
        };
        assert_eq!(read("2", "7", "control:data"), Ok(vec![1, 0]));
        assert_eq!(read("1", "7", "control"), Ok(vec![1]));
        assert_eq!(read("0", "7", ""), Ok(vec![]));
        for (count, pid) in [("", "7"), ("2", "8"), ("2", "")] {
            assert_eq!(read(count, pid, "data:control"), Ok(vec![]), "another's");
        }
        for (count, names) in
            [("2", ""), ("2", "data"), ("2", "data:data"), ("1", "tenon.socket"), ("1", "data:control")]
        {
            assert!(read(count, "7", names).unwrap_err().contains("FileDescriptorName"), "{count} {names}");
        }
        for count in ["3", "99999999999", "-1", "x"] {
            assert!(read(count, "7", "data:control").unwrap_err().contains("LISTEN_FDS"), "{count}");
        }
    }
}
