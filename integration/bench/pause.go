package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"lifeboat/tracker/control"
)

const (
	pauseDisks = 8
	pauseName  = "lifeboat_rollover_pause_seconds"
	pauseLimit = time.Millisecond
)

// pauses measures how long rollovers of a VM of 8 disks keep its writes
// waiting while each of the disks is written to without a break, as the
// filter's own histogram has it.
func (b *bench) pauses(ctx context.Context) error {
	fmt.Printf("\n### Pause of a rollover\n\nA VM of %d disks of %d MiB, all of them written to; as many rollovers as fit in %s, each acknowledged.\n",
		pauseDisks, b.size>>20/pauseDisks, b.runtime*time.Duration(b.turns))
	fmt.Println("\n| load | rollovers | median at most | p99 at most | longest at most |\n| --- | ---: | ---: | ---: | ---: |")
	for i, load := range []work{
		{"write 4 KiB random, depth 1 on each, buffered", slices.Concat(shapes[2].args, depthOne, []string{"--direct=0"})},
		{"write 4 KiB random, depth 16 on each, direct", slices.Concat(shapes[2].args, []string{"--ioengine=libaio", "--iodepth=16", "--direct=1"})},
	} {
		if err := b.pausesUnder(ctx, fmt.Sprintf("pause%d", i), load); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pausesUnder(ctx context.Context, folder string, load work) (err error) {
	defer func() { err = errors.Join(err, b.stop()) }()
	var names []string
	for i := range pauseDisks {
		names = append(names, fmt.Sprintf("disk%d.img", i))
	}
	size := b.size / pauseDisks
	dir, err := b.disks(ctx, folder, size, names...)
	if err != nil {
		return err
	}
	s, client, err := b.filter(ctx, dir, "--before-images", "100")
	if err != nil {
		return err
	}
	defer client.Close()
	if err := protect(ctx, client, names...); err != nil {
		return err
	}
	before, err := scrape(ctx, s.socket)
	if err != nil {
		return err
	}
	load.args = append(load.args, "--numjobs="+strconv.Itoa(pauseDisks), "--directory="+dir, "--filename_format=disk$jobnum.img")
	loaded := make(chan error, 1)
	go func() {
		_, err := fio(ctx, "", load, b.runtime*time.Duration(b.turns), size)
		loaded <- err
	}()
	if err := rollOver(ctx, client, loaded); err != nil {
		return err
	}
	after, err := scrape(ctx, s.socket)
	if err != nil {
		return err
	}
	h := after.since(before)
	fmt.Printf("| %s | %d | %s | %s | %s |\n", load.name, h.count(), h.quantile(0.5), h.quantile(0.99), h.quantile(1))
	met := "met"
	if h.quantile(0.99) > pauseLimit {
		met = "MISSED"
	}
	b.verdicts = append(b.verdicts, fmt.Sprintf("- %s: p99 of the pause at most %s; %s (%s)", met, pauseLimit, h.quantile(0.99), load.name))
	return nil
}

// rollOver ends epochs until the load has ended.
func rollOver(ctx context.Context, client *control.Client, loaded <-chan error) error {
	for {
		select {
		case err := <-loaded:
			return err
		default:
		}
		e, err := client.Rollover(ctx, benchVM, 0)
		if err != nil {
			return errors.Join(err, <-loaded)
		}
		if err := client.Acknowledge(ctx, benchVM, e.Number, 0); err != nil {
			return errors.Join(err, <-loaded)
		}
	}
}

// histogram has the bounds of buckets, and how many values each one and those
// before it hold.
type histogram struct {
	bounds []time.Duration
	counts []int
}

func (h histogram) count() int {
	if len(h.counts) == 0 {
		return 0
	}
	return h.counts[len(h.counts)-1]
}

func (h histogram) since(before histogram) histogram {
	counts := slices.Clone(h.counts)
	for i := range before.counts {
		counts[i] -= before.counts[i]
	}
	return histogram{h.bounds, counts}
}

// quantile returns the bound of the bucket that a quantile lies in.
func (h histogram) quantile(q float64) time.Duration {
	for i, n := range h.counts {
		if float64(n) >= q*float64(h.count()) {
			return h.bounds[i]
		}
	}
	return 0
}

// scrape reads the histogram of the pauses of the filter at a socket.
func scrape(ctx context.Context, socket string) (h histogram, err error) {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://filter/metrics", nil)
	if err != nil {
		return h, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return h, fmt.Errorf("read the filter's metrics: %w", err)
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		rest, found := strings.CutPrefix(lines.Text(), pauseName+`_bucket{le="`)
		if !found {
			continue
		}
		bound, number, found := strings.Cut(rest, `"} `)
		if !found {
			continue
		}
		seconds, err1 := strconv.ParseFloat(bound, 64)
		n, err2 := strconv.Atoi(number)
		if err := errors.Join(err1, err2); err != nil {
			return h, fmt.Errorf("read the filter's metrics: %w", err)
		}
		longest := time.Hour // beyond the last bound
		if seconds < longest.Seconds() {
			longest = time.Duration(seconds * float64(time.Second))
		}
		h.bounds, h.counts = append(h.bounds, longest), append(h.counts, n)
	}
	if err := lines.Err(); err != nil {
		return h, fmt.Errorf("read the filter's metrics: %w", err)
	}
	if len(h.counts) == 0 {
		return h, fmt.Errorf("the filter tells nothing of %s", pauseName)
	}
	return h, nil
}
