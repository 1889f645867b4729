package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"lifeboat/tracker"
)

const (
	// MaxRead is the most bytes of a disk that one request may ask for.
	// Client divides longer reads.
	MaxRead = 4 << 20

	maxBody         = 1 << 20 // of a JSON request, and of the extents of one read
	maxHeader       = 16 << 10
	headerTimeout   = 10 * time.Second
	bodyTimeout     = 30 * time.Second
	answerTimeout   = 2 * time.Minute // for a client to take an answer
	idleTimeout     = 10 * time.Minute
	shutdownTimeout = 5 * time.Second

	// readers bounds the buffers of MaxRead that are in use at once, and by
	// that the memory that the control API takes from the filter.
	readers = 4
)

// Serve lets the handler answer requests at l until ctx ends, then lets those
// in progress end within seconds, closes l and returns nil.
func Serve(ctx context.Context, l net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve control API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		_ = server.Close() // what did not end in time is cut off
	}
	<-served
	return nil
}

// handler answers the requests; it holds no state but its buffers.
type handler struct {
	backend Backend
	info    Info
	log     *slog.Logger
	slots   chan struct{}
	buffers sync.Pool // of *[]byte, MaxRead long
}

// NewHandler returns the control API for Serve. info tells who answers; API,
// PID and Started are filled in if they are zero.
func NewHandler(backend Backend, info Info, log *slog.Logger) http.Handler {
	h := &handler{backend: backend, info: info.complete(), log: log, slots: make(chan struct{}, readers)}
	h.buffers.New = func() any {
		b := make([]byte, MaxRead)
		return &b
	}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /v1/filter":                 h.filter,
		"GET /v1/vms":                    h.vms,
		"POST /v1/vms":                   h.protect,
		"GET /v1/vms/{vm}":               h.vm,
		"DELETE /v1/vms/{vm}":            h.unprotect,
		"POST /v1/vms/{vm}/rollover":     h.rollover,
		"POST /v1/vms/{vm}/acknowledge":  h.acknowledge,
		"POST /v1/vms/{vm}/require-walk": h.requireWalk,
		"GET /v1/events":                 h.events,
		"GET " + diskPath + "/allocated": h.allocated,
		"GET " + diskPath + "/data":      h.readDisk,
		"GET " + epochPath + "/changed":  h.changed,
		"GET " + epochPath + "/data":     h.readSealed,
		"POST " + epochPath + "/read":    h.readSealedExtents,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := serve(w, r); err != nil {
				h.refuse(w, r, err)
			}
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, r, fmt.Errorf("%w: the control API has no %s %s", tracker.ErrInvalid, r.Method, r.URL.Path))
	})
	return mux
}

const (
	diskPath  = "/v1/vms/{vm}/disks/{disk}"
	epochPath = diskPath + "/epochs/{epoch}"
)

// errSent marks failures after the answer began: there is nobody to tell.
var errSent = errors.New("answer was not taken")

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, errSent) {
		h.log.Debug("answer cut short", "method", r.Method, "path", r.URL.Path, "error", err)
		panic(http.ErrAbortHandler) // so that the client does not take it for whole
	}
	e, status := refusal(err)
	if status == http.StatusInternalServerError {
		h.log.Warn("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	_ = answer(w, status, e) // a client that is gone needs none
}

func answer(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	allowTime(w)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		return fmt.Errorf("%w: %w", errSent, err)
	}
	return nil
}

func nothing(w http.ResponseWriter) error {
	allowTime(w)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// allowTime starts the time within which the client must take the answer. It
// begins only now, since the backend may take long.
func allowTime(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
}

// limitBody bounds the size of a request's body and, until done is called, the
// time that it may take. (The server's own ReadTimeout would go on while the
// backend works and cancel the request.)
func limitBody(w http.ResponseWriter, r *http.Request) (body io.Reader, done func()) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(bodyTimeout))
	return http.MaxBytesReader(w, r.Body, maxBody), func() { _ = c.SetReadDeadline(time.Time{}) }
}

// question decodes the JSON body of a request.
func question(w http.ResponseWriter, r *http.Request, v any) error {
	body, done := limitBody(w, r)
	defer done()
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		_, err = d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.Join(err, errors.New("something follows the object"))
	}
	return fmt.Errorf("%w: the body is not the JSON object expected: %w", tracker.ErrInvalid, err)
}
