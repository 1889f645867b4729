// Package azurite runs Azurite, the emulator of Azure Blob Storage, for tests
// and for the demonstration: a real process that speaks the real protocol.
package azurite

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The account that Azurite has when it is told of no other. Its key is no
// secret: it is printed in Azurite's manual.
const (
	Account = "devstoreaccount1"
	Key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// readyWithin bounds the start; a quiet machine needs two seconds.
const readyWithin = 60 * time.Second

// Options say how to run Azurite.
type Options struct {
	// Location is the directory that keeps the blobs. Empty: they are kept
	// in memory and end with the process.
	Location string
	// Port to listen on; 0 lets the system choose a free one. With a
	// Location and a Port, a storage that goes away and comes back can be
	// played.
	Port int
	// Certificate and Key are files in PEM. With them Azurite speaks https
	// and takes bearer tokens, whose claims it checks but not whose
	// signature.
	Certificate, Key string
	// Log receives what Azurite prints; nil discards it.
	Log io.Writer
}

// Server is a running Azurite.
type Server struct {
	// Endpoint is the account's URL, like http://127.0.0.1:40123/devstoreaccount1.
	Endpoint string

	process *os.Process
	ended   chan struct{}
}

// Start runs Azurite until the test has ended; blobs are kept in memory. It
// fails the test if Azurite is not installed, rather than hide that.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Launch(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Launch runs Azurite until Close is called, or until this process ends
// however it ends. It returns when requests are answered.
func Launch(ctx context.Context, options Options) (*Server, error) {
	program, err := find()
	if err != nil {
		return nil, err
	}
	arguments := []string{
		program, "--blobHost", "127.0.0.1", "--blobPort", strconv.Itoa(options.Port),
		// azblob sends a newer version of the protocol than Azurite knows.
		"--silent", "--disableTelemetry", "--skipApiVersionCheck",
	}
	if options.Location == "" {
		arguments = append(arguments, "--inMemoryPersistence")
	} else {
		arguments = append(arguments, "--location", options.Location)
	}
	if options.Certificate != "" {
		arguments = append(arguments, "--oauth", "basic", "--cert", options.Certificate, "--key", options.Key)
	}
	output := &banner{log: options.Log, address: make(chan string, 1)}
	cmd := exec.Command("node", arguments...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s := &Server{ended: make(chan struct{})}
	if err := s.run(cmd); err != nil {
		return nil, fmt.Errorf("start azurite: %w; node is needed, `make setup` installs it", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := s.waitReady(ctx, output.address); err != nil {
		s.Close()
		return nil, fmt.Errorf("start azurite: %w; it printed: %s", err, output.String())
	}
	return s, nil
}

// run starts cmd from a thread that lives as long as the process does: the
// kernel sends the death signal when the thread ends that started it.
func (s *Server) run(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer close(s.ended)
		err := cmd.Start()
		if err == nil {
			s.process = cmd.Process
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is killed, so its exit code says nothing
		}
	}()
	return <-started
}

// waitReady waits for the address and then asks there until something answers.
func (s *Server) waitReady(ctx context.Context, address <-chan string) error {
	select {
	case a := <-address:
		s.Endpoint = a + "/" + Account
	case <-s.ended:
		return errors.New("it has ended")
	case <-ctx.Done():
		return ctx.Err()
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if s.answers(ctx) {
			return nil
		}
		select {
		case <-again.C:
		case <-s.ended:
			return errors.New("it has ended")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// answers tells whether the server answers, be it with a refusal.
func (s *Server) answers(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"?comp=list", nil)
	if err != nil {
		return false
	}
	// Whoever it is that answers: nothing secret is said to it.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return false
	}
	return response.Body.Close() == nil
}

// Close ends Azurite at once and waits for its end. It may be called again.
func (s *Server) Close() {
	_ = s.process.Kill() // it fails only if the process has ended
	<-s.ended
}

// URL returns the URL of a container, or of a prefix in it, as the store
// packages take it.
func (s *Server) URL(container string) string { return s.Endpoint + "/" + container }

// Environ returns the variables that give a process access, as os/exec takes
// them.
func (s *Server) Environ() []string {
	return []string{"AZURE_STORAGE_ACCOUNT=" + Account, "AZURE_STORAGE_KEY=" + Key}
}

// Getenv looks up what Environ returns, for code that takes its environment as
// a function.
func (s *Server) Getenv(name string) string {
	switch name {
	case "AZURE_STORAGE_ACCOUNT":
		return Account
	case "AZURE_STORAGE_KEY":
		return Key
	}
	return ""
}

// ConnectionString returns everything that gives access, in one string.
func (s *Server) ConnectionString() string {
	return "DefaultEndpointsProtocol=http;AccountName=" + Account + ";AccountKey=" + Key + ";BlobEndpoint=" + s.Endpoint + ";"
}

// find returns the program: what $AZURITE names, or what `make setup` has put
// into the module that the working directory lies in.
func find() (string, error) {
	const installed = ".cache/azurite/node_modules/azurite/dist/src/blob/main.js"
	if program := os.Getenv("AZURITE"); program != "" {
		if _, err := os.Stat(program); err != nil {
			return "", fmt.Errorf("find azurite: $AZURITE: %w", err)
		}
		return program, nil
	}
	directory, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find azurite: %w", err)
	}
	for {
		program := filepath.Join(directory, installed)
		if _, err := os.Stat(program); err == nil {
			return program, nil
		}
		parent := filepath.Dir(directory)
		if parent == directory {
			return "", fmt.Errorf("find azurite: no %s here or above, and $AZURITE is not set; run `make setup`", installed)
		}
		directory = parent
	}
}

// banner keeps what Azurite prints, and finds in it the address it listens on.
type banner struct {
	log     io.Writer
	address chan string

	mu   sync.Mutex
	text bytes.Buffer
}

var listensOn = regexp.MustCompile(`successfully listens on (https?://[0-9.:]+)\n`)

// Write implements io.Writer.
func (b *banner) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.text.Len() < 64<<10 {
		b.text.Write(p)
		if found := listensOn.FindSubmatch(b.text.Bytes()); found != nil {
			select {
			case b.address <- string(found[1]):
			default: // told before
			}
		}
	}
	if b.log != nil {
		return b.log.Write(p)
	}
	return len(p), nil
}

// String returns what was printed so far, up to a bound.
func (b *banner) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
