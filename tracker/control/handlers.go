package control

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"lifeboat/disk"
	"lifeboat/tracker"
)

// Bodies of requests that are no type of package tracker.
type (
	rolloverRequest struct {
		Walk uint64 `json:"walk,omitempty"`
	}
	acknowledgeRequest struct {
		Epoch uint64 `json:"epoch"`
		Walk  uint64 `json:"walk,omitempty"`
	}
	requireWalkRequest struct {
		Reason string `json:"reason"`
	}
)

func (i Info) complete() Info {
	i.API = APIVersion
	if i.PID == 0 {
		i.PID = os.Getpid()
	}
	if i.Started.IsZero() {
		i.Started = time.Now()
	}
	return i
}

func (h *handler) filter(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, http.StatusOK, h.info)
}

func (h *handler) vms(w http.ResponseWriter, r *http.Request) error {
	vms, err := h.backend.VMs(r.Context())
	if err != nil {
		return err
	}
	if vms == nil {
		vms = []tracker.VM{}
	}
	return answer(w, http.StatusOK, vms)
}

func (h *handler) vm(w http.ResponseWriter, r *http.Request) error {
	vm, err := h.backend.VM(r.Context(), r.PathValue("vm"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, vm)
}

func (h *handler) protect(w http.ResponseWriter, r *http.Request) error {
	var spec tracker.Spec
	if err := question(w, r, &spec); err != nil {
		return err
	}
	vm, err := h.backend.Protect(r.Context(), spec)
	if err != nil {
		return err
	}
	return answer(w, http.StatusCreated, vm)
}

func (h *handler) unprotect(w http.ResponseWriter, r *http.Request) error {
	if err := h.backend.Unprotect(r.Context(), r.PathValue("vm")); err != nil {
		return err
	}
	return nothing(w)
}

func (h *handler) rollover(w http.ResponseWriter, r *http.Request) error {
	var q rolloverRequest
	if err := question(w, r, &q); err != nil {
		return err
	}
	epoch, err := h.backend.Rollover(r.Context(), r.PathValue("vm"), q.Walk)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, epoch)
}

func (h *handler) acknowledge(w http.ResponseWriter, r *http.Request) error {
	var q acknowledgeRequest
	if err := question(w, r, &q); err != nil {
		return err
	}
	if err := h.backend.Acknowledge(r.Context(), r.PathValue("vm"), q.Epoch, q.Walk); err != nil {
		return err
	}
	return nothing(w)
}

func (h *handler) requireWalk(w http.ResponseWriter, r *http.Request) error {
	var q requireWalkRequest
	if err := question(w, r, &q); err != nil {
		return err
	}
	if err := h.backend.RequireWalk(r.Context(), r.PathValue("vm"), q.Reason); err != nil {
		return err
	}
	return nothing(w)
}

func (h *handler) events(w http.ResponseWriter, r *http.Request) error {
	after, err := number(r.URL.Query().Get("after"), "after")
	if err != nil {
		return err
	}
	events, err := h.backend.Events(r.Context(), after)
	if err != nil {
		return err
	}
	if events == nil {
		events = []tracker.Event{}
	}
	return answer(w, http.StatusOK, events)
}

func (h *handler) allocated(w http.ResponseWriter, r *http.Request) error {
	from, err := number(r.URL.Query().Get("from"), "from")
	if err != nil {
		return err
	}
	if from > uint64(maxBlock) {
		return fmt.Errorf("%w: block %d lies beyond any disk", tracker.ErrInvalid, from)
	}
	x, err := h.backend.Allocated(r.Context(), r.PathValue("vm"), r.PathValue("disk"), disk.Block(from))
	if err != nil {
		return err
	}
	if x.Count == 0 {
		return answerExtents(w, nil)
	}
	return answerExtents(w, tracker.Extents{x})
}

func (h *handler) changed(w http.ResponseWriter, r *http.Request) error {
	epoch, err := number(r.PathValue("epoch"), "epoch")
	if err != nil {
		return err
	}
	extents, err := h.backend.Changed(r.Context(), r.PathValue("vm"), epoch, r.PathValue("disk"))
	if err != nil {
		return err
	}
	return answerExtents(w, extents)
}

func answerExtents(w http.ResponseWriter, extents tracker.Extents) error {
	allowTime(w)
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := writeExtents(w, extents); err != nil {
		return fmt.Errorf("%w: %w", errSent, err)
	}
	return nil
}

// number parses a decimal number of the request; absent means 0.
func number(s, name string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s=%q is no number", tracker.ErrInvalid, name, s)
	}
	return n, nil
}
