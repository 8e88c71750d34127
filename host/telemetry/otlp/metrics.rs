//! What `/metrics` shows, as OTLP's metrics: the same names, labels and figures.
//!
//! Owns the translation; refuses to know which metrics there are.

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric::Data, number_data_point::Value,
    },
    resource::v1::Resource,
};
use prometheus::proto::{self, MetricFamily, MetricType};
use prost::Message as _;

use super::spans::{scope, text};

/// Since when totals count, and now: nanoseconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Period {
    pub(super) since_ns: u64,
    pub(super) now_ns: u64,
}

/// The most that a message's metrics may take: receivers of gRPC refuse messages over 4 MiB.
const MOST_BYTES: usize = 2 << 20;
/// Samples of one metric that stay together: labels have a few hundred bytes, buckets likewise.
const MOST_SAMPLES: usize = 1000;

/// Messages with these metrics, mostly one. A metric of many functions may be in several, each with other samples.
pub(super) fn messages(
    resource: &Resource,
    families: &[MetricFamily],
    period: Period,
) -> Vec<ExportMetricsServiceRequest> {
    let mut messages = Vec::new();
    let (mut metrics, mut bytes) = (Vec::new(), 0);
    for family in families {
        for samples in family.get_metric().chunks(MOST_SAMPLES) {
            let Some(metric) = metric(family, samples, period) else { continue };
            let more = metric.encoded_len();
            if bytes + more > MOST_BYTES && !metrics.is_empty() {
                messages.push(message(resource, std::mem::take(&mut metrics)));
                bytes = 0;
            }
            bytes += more;
            metrics.push(metric);
        }
    }
    if !metrics.is_empty() {
        messages.push(message(resource, metrics));
    }
    messages
}

fn message(resource: &Resource, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
    let resource = Some(resource.clone());
    let resource_metrics = vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn metric(family: &MetricFamily, samples: &[proto::Metric], period: Period) -> Option<Metric> {
    let numbers = |value: fn(&proto::Metric) -> f64| -> Vec<_> {
        samples.iter().map(|sample| number(sample, value(sample), period)).collect()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.get_field_type() {
        MetricType::COUNTER => {
            let data_points = numbers(|sample| sample.get_counter().get_value());
            Data::Sum(Sum { data_points, aggregation_temporality: cumulative, is_monotonic: true })
        }
        MetricType::GAUGE => Data::Gauge(Gauge { data_points: numbers(|sample| sample.get_gauge().get_value()) }),
        MetricType::HISTOGRAM => {
            let data_points = samples.iter().map(|sample| histogram(sample, period)).collect();
            Data::Histogram(Histogram { data_points, aggregation_temporality: cumulative })
        }
        // The host has none.
        MetricType::SUMMARY | MetricType::UNTYPED => return None,
    };
    let name = family.name().to_owned();
    let unit = unit(&name).to_owned();
    Some(Metric { name, description: family.help().into(), unit, data: Some(data), ..Metric::default() })
}

/// As UCUM writes the unit that a name ends in.
fn unit(name: &str) -> &'static str {
    match name.strip_suffix("_total").unwrap_or(name) {
        name if name.ends_with("_seconds") => "s",
        name if name.ends_with("_bytes") => "By",
        _ => "1",
    }
}

fn labels(sample: &proto::Metric) -> Vec<KeyValue> {
    sample.get_label().iter().map(|label| text(label.name(), label.value())).collect()
}

fn number(sample: &proto::Metric, value: f64, period: Period) -> NumberDataPoint {
    NumberDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: period.since_ns,
        time_unix_nano: period.now_ns,
        value: Some(Value::AsDouble(value)),
        ..NumberDataPoint::default()
    }
}

fn histogram(sample: &proto::Metric, period: Period) -> HistogramDataPoint {
    let histogram = sample.get_histogram();
    // Prometheus counts everything up to a bound, OTLP what lies between two; the last lies beyond all bounds.
    let finite = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let (bounds, up_to): (Vec<f64>, Vec<u64>) =
        finite.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).unzip();
    let ends = up_to.iter().copied().chain([histogram.get_sample_count()]);
    let starts = [0].into_iter().chain(up_to.iter().copied());
    HistogramDataPoint {
        attributes: labels(sample),
        start_time_unix_nano: period.since_ns,
        time_unix_nano: period.now_ns,
        count: histogram.get_sample_count(),
        sum: Some(histogram.get_sample_sum()),
        bucket_counts: ends.zip(starts).map(|(end, start)| end.saturating_sub(start)).collect(),
        explicit_bounds: bounds,
        ..HistogramDataPoint::default()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, Registry};

    use super::*;

    #[test]
    fn buckets_are_taken_apart() {
        let registry = Registry::new();
        let histogram =
            prometheus::Histogram::with_opts(HistogramOpts::new("a_seconds", "A.").buckets(vec![1.0, 2.0])).unwrap();
        registry.register(Box::new(histogram.clone())).unwrap();
        [0.5, 0.6, 1.5, 7.0, 8.0, 9.0].into_iter().for_each(|value| histogram.observe(value));
        let period = Period { since_ns: 1, now_ns: 2 };
        let gathered = registry.gather();
        let metric = metric(&gathered[0], gathered[0].get_metric(), period).unwrap();
        let Some(Data::Histogram(Histogram { data_points, .. })) = metric.data else { panic!("{metric:?}") };
        assert_eq!((&metric.name[..], &metric.unit[..]), ("a_seconds", "s"));
        assert_eq!(data_points[0].bucket_counts, [2, 1, 3]);
        assert_eq!((&data_points[0].explicit_bounds[..], data_points[0].count), (&[1.0, 2.0][..], 6));
    }
    #[test]
    fn many_functions_fit_into_messages_that_are_taken() {
        const FUNCTIONS: usize = 5000;
        let registry = Registry::new();
        let options = HistogramOpts::new("a_seconds", "A.");
        let many = prometheus::HistogramVec::new(options, &["function", "outcome"]).unwrap();
        registry.register(Box::new(many.clone())).unwrap();
        for function in 0..FUNCTIONS {
            for outcome in ["ok", "caller"] {
                many.with_label_values(&[&format!("{function:0100}"), outcome]).observe(1.0);
            }
        }
        let period = Period { since_ns: 1, now_ns: 2 };
        let messages = messages(&Resource::default(), &registry.gather(), period);
        assert!(messages.iter().all(|message| message.encoded_len() <= MOST_BYTES + 1000));
        let metrics = messages.iter().flat_map(|message| &message.resource_metrics[0].scope_metrics[0].metrics);
        let points = metrics.map(|metric| match &metric.data {
            Some(Data::Histogram(histogram)) => histogram.data_points.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(points.sum::<usize>(), 2 * FUNCTIONS);
        assert!(messages.len() > 1);
    }
}
