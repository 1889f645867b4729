package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"lifeboat/disk"
	"lifeboat/tracker"
	"lifeboat/tracker/control"
)

// A rollover keeps hardly a guest waiting: with 8 disks of a VM written to all
// the time, 95 of 100 pauses are below a millisecond, as the filter's own
// histogram has it. (On a machine that does nothing else 99 are: see make
// bench.)
func TestRolloverPause(t *testing.T) {
	const (
		disks    = 8
		diskSize = 64 << 20
		limit    = 1e-3 // seconds
	)
	s := newSite(t)
	spec := tracker.Spec{ID: fmt.Sprintf("%032x", 1), Name: vm}
	for i := range disks {
		name := fmt.Sprintf("disk%d.img", i)
		s.makeDisk(t, name, diskSize)
		spec.Disks = append(spec.Disks, tracker.DiskSpec{ID: fmt.Sprintf("%032x", 16+i), Path: name})
	}
	s.mount(t)
	socket := control.SocketPath(filepath.Join(s.dir, "run"), s.mountpoint)
	filter := control.NewClient(socket)
	_, err := filter.Protect(t.Context(), spec)
	must(t, err)

	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range disks {
		f, err := os.OpenFile(s.disk(fmt.Sprintf("disk%d.img", i)), os.O_RDWR, 0)
		must(t, err)
		writers.Go(func() {
			defer f.Close() //nolint:errcheck // its writes are checked
			p := make([]byte, disk.BlockSize)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.WriteAt(p, rand.Int64N(diskSize/disk.BlockSize)*disk.BlockSize); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range rounds(300, 3000) {
		state, err := filter.VM(t.Context(), spec.ID)
		must(t, err)
		walk := uint64(0)
		if state.Walk.Required {
			walk = state.Walk.Number
		}
		e, err := filter.Rollover(t.Context(), spec.ID, walk)
		must(t, err)
		must(t, filter.Acknowledge(t.Context(), spec.ID, e.Number, walk))
	}
	close(stop)
	writers.Wait()

	total, below := pauses(t, socket, limit)
	t.Logf("%d rollovers of %d disks, %d with a pause of at most %v s", total, disks, below, limit)
	if total == 0 || below*100 < total*95 {
		t.Errorf("of %d rollovers only %d had a pause of at most %v s", total, below, limit)
	}
}

// pauses returns what the histogram of the filter at a socket counts: all
// pauses, and those not longer than limit seconds.
func pauses(t *testing.T, socket string, limit float64) (total, below int) {
	t.Helper()
	text := metricsOf(t, socket)
	const name = "lifeboat_rollover_pause_seconds"
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		switch fields[0] {
		case fmt.Sprintf("%s_bucket{le=%q}", name, strconv.FormatFloat(limit, 'g', -1, 64)):
			below = n
		case name + "_count":
			total = n
		}
	}
	return total, below
}

// metricsOf returns what a filter tells Prometheus.
func metricsOf(t *testing.T, socket string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	answer, err := client.Get("http://filter/metrics")
	must(t, err)
	defer answer.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(answer.Body)
	must(t, err)
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s", answer.Status)
	}
	return string(text)
}
