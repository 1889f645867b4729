// Package api is the API of the sidecar: its types, server and client.
//
// It is HTTP/1.1 with JSON over a Unix socket of mode 0600, by default
// upload.sock in the runtime directory:
//
//	GET    /v1/status                            Status
//	POST   /v1/vms             ProtectRequest    Protected, 202
//	DELETE /v1/vms/VM?force=1                    204
//	POST   /v1/vms/VM/points   {wait}            Point
//	GET    /v1/vms/VM/points                     [Point], oldest first
//	POST   /v1/vms/VM/resume                     204
//	GET    /v1/jobs                              [Job], newest first
//	GET    /v1/jobs/ID                           Job
//
// A refusal has a status of 400 or above and an Error for its body.
package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"
)

const (
	maxBody         = 1 << 20
	headerTimeout   = 10 * time.Second
	idleTimeout     = 10 * time.Minute
	shutdownTimeout = 5 * time.Second
)

// SocketPath returns where the sidecar has its socket.
func SocketPath(runtimeDir string) string { return filepath.Join(runtimeDir, "upload.sock") }

// Serve answers requests at l until ctx ends, then closes l and returns nil.
// Calls that wait are given up then.
func Serve(ctx context.Context, l net.Listener, backend Backend, log *slog.Logger) error {
	server := &http.Server{
		Handler:           NewHandler(backend),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve API: %w", err)
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

type cutRequest struct {
	Wait bool `json:"wait,omitempty"`
}

// NewHandler returns what Serve serves.
func NewHandler(b Backend) http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, status int, serve func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			result, err := serve(r)
			if err != nil {
				e := toError(err)
				answer(w, statusOf(e.Code), e)
				return
			}
			answer(w, status, result)
		})
	}
	handle("GET /v1/status", http.StatusOK, func(r *http.Request) (any, error) { return b.Status(r.Context()) })
	handle("POST /v1/vms", http.StatusAccepted, func(r *http.Request) (any, error) {
		var q ProtectRequest
		if err := question(r, &q); err != nil {
			return nil, err
		}
		return b.Protect(r.Context(), q)
	})
	handle("DELETE /v1/vms/{vm}", http.StatusNoContent, func(r *http.Request) (any, error) {
		return nil, b.Unprotect(r.Context(), r.PathValue("vm"), r.URL.Query().Get("force") != "")
	})
	handle("POST /v1/vms/{vm}/points", http.StatusOK, func(r *http.Request) (any, error) {
		var q cutRequest
		if err := question(r, &q); err != nil {
			return nil, err
		}
		return b.Cut(r.Context(), r.PathValue("vm"), q.Wait)
	})
	handle("GET /v1/vms/{vm}/points", http.StatusOK, func(r *http.Request) (any, error) {
		return b.Points(r.Context(), r.PathValue("vm"))
	})
	handle("POST /v1/vms/{vm}/resume", http.StatusNoContent, func(r *http.Request) (any, error) {
		return nil, b.Resume(r.Context(), r.PathValue("vm"))
	})
	handle("GET /v1/jobs", http.StatusOK, func(r *http.Request) (any, error) { return b.Jobs(r.Context()) })
	handle("GET /v1/jobs/{id}", http.StatusOK, func(r *http.Request) (any, error) {
		return b.Job(r.Context(), r.PathValue("id"))
	})
	handle("/", http.StatusOK, func(r *http.Request) (any, error) {
		return nil, &Error{Code: CodeInvalid, Message: "the API has no " + r.Method + " " + r.URL.Path}
	})
	return mux
}

func toError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &Error{Code: CodeCancelled, Message: err.Error(), Hint: "the sidecar may be stopping: try again"}
	}
	return &Error{Code: CodeInternal, Message: err.Error()}
}

func question(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &Error{Code: CodeInvalid, Message: fmt.Sprintf("the body is not the JSON object expected: %v", err)}
	}
	return nil
}

func answer(w http.ResponseWriter, status int, v any) {
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	body, err := json.Marshal(v)
	if err != nil { // not with the types of this package
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs none
}
