//! The operator's token: made at first start, kept in a file that only the host's user can read.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;
/// What a token is recognised by in logs and scanners.
const PREFIX: &str = "tenon_admin_";

/// The hash of the token; the token itself is in the file and with whoever may read it.
#[derive(Clone)]
pub struct Token(blake3::Hash);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages are the documentation")]
pub enum TokenError {
    #[error("the token file {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the token file {} can be read by others (mode {mode:o}); `chmod 600` it, or delete it for a new one", path.display())]
    Readable { path: PathBuf, mode: u32 },
    #[error("the token file {} has no token in it; delete it for a new one", path.display())]
    Malformed { path: PathBuf },
    #[error("no random bytes for the token")]
    Random,
}

impl Token {
    /// Reads the token of `folder`, or makes one.
    pub fn in_folder(folder: &Path) -> Result<Self, TokenError> {
        let path = folder.join("admin-token");
        let file = |source| TokenError::File { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let mode = fs::metadata(&path).map_err(file)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(TokenError::Readable { path, mode });
                }
                let token = text.trim();
                if token.strip_prefix(PREFIX).is_none_or(|secret| secret.len() != 2 * TOKEN_BYTES) {
                    return Err(TokenError::Malformed { path });
                }
                Ok(Self(blake3::hash(token.as_bytes())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(&path),
            Err(error) => Err(file(error)),
        }
    }

    fn make(path: &Path) -> Result<Self, TokenError> {
        let file = |source| TokenError::File { path: path.into(), source };
        let mut secret = [0; TOKEN_BYTES];
        getrandom::fill(&mut secret).map_err(|_| TokenError::Random)?;
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = format!("{PREFIX}{hex}");
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(file)?;
        }
        // Written whole under another name, so that no reader sees half a token.
        let partial = path.with_extension("partial");
        let _ = fs::remove_file(&partial);
        let mut open = fs::OpenOptions::new();
        let mut written = open.write(true).create_new(true).mode(0o600).open(&partial).map_err(file)?;
        writeln!(written, "{token}").and_then(|()| written.sync_all()).map_err(file)?;
        fs::rename(&partial, path).map_err(file)?;
        Ok(Self(blake3::hash(token.as_bytes())))
    }

    /// Whether this is the token. Compares hashes in constant time.
    pub fn is(&self, bearer: &str) -> bool {
        blake3::hash(bearer.as_bytes()) == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin-token");
        Token::in_folder(folder.path()).unwrap();
        let token = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Token::in_folder(folder.path()).unwrap();
        assert!(again.is(token.trim()));
        for wrong in ["", "x", &token.trim()[1..], &token] {
            assert!(!again.is(wrong), "{wrong:?}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Token::in_folder(folder.path()), Err(TokenError::Readable { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(Token::in_folder(folder.path()), Err(TokenError::Malformed { .. })));
    }
}
