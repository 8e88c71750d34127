//! The Open Inference Protocol: over HTTP by hand (`rest`), over gRPC by hand (`grpc`), by the client that everybody has
//! (`clients`), and as the defaults of functions that leave tensors to the host (`functions`).

mod clients;
mod functions;
mod grpc;
mod rest;
mod table;
