package recovery

import (
	"errors"
	"testing"
	"time"

	"lifeboat/replica"
)

func TestSelectPoint(t *testing.T) {
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	var points []replica.Point
	for i, when := range []string{"2026-03-01T12:00:00Z", "2026-03-01T12:00:30.5Z", "2026-03-01T12:01:00Z"} {
		points = append(points, replica.Point{Manifest: &replica.Manifest{Epoch: uint64(2 * (i + 1)), Time: at(when)}})
	}
	zone := time.FixedZone("CET", 3600)
	for text, want := range map[string]uint64{
		"":                               6,
		"latest":                         6,
		"2":                              2,
		"4":                              4,
		"3":                              0,
		"2026-03-01T12:00:30Z":           2,
		"2026-03-01T12:00:30.5Z":         4,
		"2026-03-01T13:00:59+01:00":      4,
		"2026-03-01 13:00:00":            2,
		"2026-03-01 13:01":               6,
		"2030-01-01 00:00":               6,
		"2026-03-01 12:59:59":            0,
		"2026-03-01T11:59:59.999999999Z": 0,
	} {
		s, err := ParseSelector(text, zone)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		p, err := SelectPoint(points, s)
		if want == 0 {
			if !errors.Is(err, replica.ErrNoPoint) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil || p.Epoch != want {
			t.Errorf("%q: %v, want epoch %d", text, err, want)
		}
		if back, err := ParseSelector(s.String(), zone); err != nil || back.Epoch != s.Epoch || !back.Time.Equal(s.Time) {
			t.Errorf("%q is written %q: %v", text, s, err)
		}
	}
	for _, text := range []string{"newest", "0", "-1", "12:00", "2026-13-01 00:00", "99999999999999999999"} {
		if s, err := ParseSelector(text, zone); err == nil {
			t.Errorf("%q was taken for %v", text, s)
		}
	}
	if _, err := SelectPoint(nil, Selector{}); !errors.Is(err, replica.ErrNoPoint) {
		t.Errorf("no points: %v", err)
	}
}

func TestFindPointReadsWhatItNeeds(t *testing.T) {
	s := threePoints(t)
	find := func(selector Selector) uint64 {
		t.Helper()
		p, err := FindPoint(t.Context(), s.repository, testVM, selector)
		if err != nil {
			t.Fatal(err)
		}
		return p.Epoch
	}
	if n := find(Selector{}); n != 3 {
		t.Errorf("latest is %d", n)
	}
	if n := find(Selector{Epoch: 2}); n != 2 {
		t.Errorf("epoch 2 is %d", n)
	}
	if n := find(Selector{Time: s.clock.Add(-2 * time.Minute)}); n != 2 {
		t.Errorf("the point of two minutes ago is %d", n)
	}
	_, err := FindPoint(t.Context(), s.repository, testVM, Selector{Epoch: 9})
	if !errors.Is(err, replica.ErrNoPoint) {
		t.Errorf("epoch 9: %v", err)
	}
	_, err = FindPoint(t.Context(), s.repository, testVM, Selector{Time: s.clock.Add(-time.Hour)})
	if !errors.Is(err, replica.ErrNoPoint) {
		t.Errorf("an hour ago: %v", err)
	}
	whole := s.store.blobs[replica.PointBlob(testVM, 1)]
	s.store.blobs[replica.PointBlob(testVM, 1)] = []byte("{}")
	if n := find(Selector{Time: s.clock.Add(-2 * time.Minute)}); n != 2 {
		t.Errorf("before it there is damage, and the point of two minutes ago is %d", n)
	}
	s.store.blobs[replica.PointBlob(testVM, 1)] = whole
	s.store.blobs[replica.PointBlob(testVM, 3)] = []byte("{}")
	if n := find(Selector{Epoch: 1}); n != 1 {
		t.Errorf("beside a damaged manifest, epoch 1 is %d", n)
	}
	var damaged *DamagedPointError
	if _, err := FindPoint(t.Context(), s.repository, testVM, Selector{Time: s.clock}); !errors.As(err, &damaged) || damaged.Older != 2 {
		t.Errorf("the newest manifest is damaged, and its time unknown: %v", err)
	}
	if _, err := FindPoint(t.Context(), s.repository, testVM, Selector{}); !errors.As(err, &damaged) || damaged.Older != 2 {
		t.Errorf("the newest manifest is damaged: %v", err)
	}
}
