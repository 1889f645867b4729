package replica

import (
	"context"
	"fmt"
	"time"
)

// Event is something that happened to a VM's protection, kept with its replica.
type Event struct {
	Format int `json:"format"`
	// Time is in UTC.
	Time time.Time `json:"time"`
	VM   string    `json:"vm"`
	Disk string    `json:"disk,omitempty"`
	// Code is stable and for programs; Text is for people.
	Code string `json:"code"`
	Text string `json:"text"`
	// Epoch is the epoch that it concerns, 0 for none.
	Epoch uint64 `json:"epoch,omitempty"`
}

// AppendEvent puts an event. Every call makes a new one.
func (r *Repository) AppendEvent(ctx context.Context, e Event) error {
	e.Format = format
	e.Time = e.Time.UTC().Round(0)
	if !ValidID(e.VM) || e.Time.IsZero() || e.Code == "" {
		return fmt.Errorf("recording event %q: it needs a code, a time and the id of its VM", e.Code)
	}
	data, err := encodeDocument(e)
	if err == nil {
		name := eventsPrefix(e.VM) + e.Time.Format("20060102T150405.000000000Z") + "-" + NewID() + ".json"
		err = put(ctx, r.store, name, data)
	}
	if err != nil {
		return fmt.Errorf("recording event %q: %w", e.Code, err)
	}
	return nil
}
