//! `tenon-host`: reads the configuration, starts a host, and drains it when it is told to end.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tenon_host::{
    boot,
    config::{Config, Flags},
    handover::Activated,
    telemetry::{LogFormat, start_logs},
};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let flags = Flags::parse();
    let config = Config::load(&flags);
    // A configuration that cannot be read cannot say how lines look.
    start_logs(config.as_ref().map_or(LogFormat::default(), |config| config.telemetry.log_format));
    match config.map_err(Into::into).and_then(|config| run(config, &flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, flags: &Flags) -> Result<()> {
    if flags.check {
        boot::check(&config)?;
        tracing::info!("the configuration is fine");
        return Ok(());
    }
    // While there is one thread: it takes variables out of the environment.
    let arrival = boot::Arrival { handover: flags.handover, activated: Activated::from_environment()? };
    let reactor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads.reactor())
        .thread_name("reactor")
        .enable_all()
        .build()
        .context("the reactor's threads could not be started")?;
    let ended = reactor.block_on(serve(config, arrival));
    // Dropping it would wait for whatever blocks, such as a component that is being compiled: nobody needs that any more.
    reactor.shutdown_background();
    ended
}

/// Why a host ends.
enum End {
    Asked,
    HandedOver,
    Lost(String),
}

async fn serve(config: Config, arrival: boot::Arrival) -> Result<()> {
    // Before anything is loaded, so that no signal finds the default action.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let starting = boot::start_as(config, arrival);
    let host = tokio::select! {
        host = starting => host?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let whom = if host.asks_for_keys() { "for those who have a key" } else { "open to everybody who reaches it" };
    tracing::info!("data plane on {}, {whom}", host.data_url());
    tracing::info!("control plane on {}, with the token of data/admin-token or a key", host.control_url());
    let end = tokio::select! {
        _ = terminate.recv() => End::Asked,
        _ = interrupt.recv() => End::Asked,
        () = host.handed_over() => End::HandedOver,
        why = host.lost() => End::Lost(why),
    };
    match &end {
        End::Asked => tracing::info!("draining; a second signal ends at once"),
        End::HandedOver => tracing::info!("draining what this host has accepted; a signal ends at once"),
        End::Lost(why) => {
            tracing::error!(why, "a device takes nothing any more until this process is started anew: ending");
        }
    }
    tokio::select! {
        () = host.drain() => {}
        _ = terminate.recv() => tracing::warn!("ended by a second signal"),
        _ = interrupt.recv() => tracing::warn!("ended by a second signal"),
    }
    match end {
        // For the supervisor, who starts another.
        End::Lost(why) => Err(anyhow::anyhow!("a device was lost: {why}")),
        End::Asked | End::HandedOver => Ok(()),
    }
}
