package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lifeboat/fusefs"
)

// pauseBuckets go from a microsecond to seconds.
var pauseBuckets = []float64{
	1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4,
	1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5,
}

// metrics are what the filter tells Prometheus, on its control socket.
type metrics struct {
	registry *prometheus.Registry
	pauses   prometheus.Histogram
}

func newMetrics(fs *fusefs.FS) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		pauses: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "lifeboat_rollover_pause_seconds",
			Help:    "How long the longest-waiting write of a guest was kept waiting by a rollover of its VM.",
			Buckets: pauseBuckets,
		}),
	}
	m.registry.MustRegister(m.pauses, newIOCollector(fs),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) rolloverPause(d time.Duration) { m.pauses.Observe(d.Seconds()) }

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// ioCollector tells what went through the filter, as it counts it anyway.
type ioCollector struct {
	fs                                      *fusefs.FS
	operations, read, written, opens, nodes *prometheus.Desc
}

func newIOCollector(fs *fusefs.FS) *ioCollector {
	return &ioCollector{
		fs:         fs,
		operations: prometheus.NewDesc("lifeboat_operations_total", "Requests answered, by their name in the FUSE protocol. Reads and writes in kernel passthrough are not among them.", []string{"operation"}, nil),
		read:       prometheus.NewDesc("lifeboat_read_bytes_total", "Bytes read through the filter.", nil, nil),
		written:    prometheus.NewDesc("lifeboat_written_bytes_total", "Bytes written through the filter.", nil, nil),
		opens:      prometheus.NewDesc("lifeboat_passthrough_opens_total", "Opens that were left to the kernel.", nil, nil),
		nodes:      prometheus.NewDesc("lifeboat_inodes", "Inodes that the kernel knows now.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *ioCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.operations, c.read, c.written, c.opens, c.nodes} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *ioCollector) Collect(out chan<- prometheus.Metric) {
	s := c.fs.Stats()
	for name, n := range s.Operations {
		out <- prometheus.MustNewConstMetric(c.operations, prometheus.CounterValue, float64(n), name)
	}
	out <- prometheus.MustNewConstMetric(c.read, prometheus.CounterValue, float64(s.BytesRead))
	out <- prometheus.MustNewConstMetric(c.written, prometheus.CounterValue, float64(s.BytesWritten))
	out <- prometheus.MustNewConstMetric(c.opens, prometheus.CounterValue, float64(s.PassthroughOpens))
	out <- prometheus.MustNewConstMetric(c.nodes, prometheus.GaugeValue, float64(s.Nodes))
}
