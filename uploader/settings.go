package uploader

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lifeboat/uploader/api"
)

// Bounds of the copy frequency.
const (
	MinFrequency     = time.Second
	MaxFrequency     = 15 * time.Minute
	DefaultFrequency = 30 * time.Second
)

// CheckFrequency refuses a copy frequency out of bounds.
func CheckFrequency(f time.Duration) error {
	if f < MinFrequency || f > MaxFrequency {
		return &api.Error{
			Code:    api.CodeInvalid,
			Message: fmt.Sprintf("a copy frequency of %v is not possible", f),
			Hint:    fmt.Sprintf("choose one from %v to %v", MinFrequency, MaxFrequency),
		}
	}
	return nil
}

// vmSettings are what the sidecar keeps of a VM besides its caches. Without
// them everything works on, with the defaults.
type vmSettings struct {
	// FrequencySeconds is the copy frequency, 0 for the sidecar's default.
	FrequencySeconds float64 `json:"frequency_seconds,omitempty"`
	// Acknowledged is the newest epoch whose manifest is known to have been
	// committed. A container whose newest is older has lost something.
	Acknowledged uint64 `json:"acknowledged,omitempty"`
	// Unprotected is when the protection was ended, until the container has
	// been told.
	Unprotected time.Time `json:"unprotected,omitzero"`
}

// settingsFile keeps a VM's settings. It may be used concurrently.
type settingsFile struct {
	path string
	mu   sync.Mutex
	now  vmSettings
}

// openSettings reads the settings in a VM's directory. What is missing or
// cannot be read counts as the defaults, and is told by the error besides.
func openSettings(directory string) (*settingsFile, error) {
	f := &settingsFile{path: filepath.Join(directory, "settings.json")}
	data, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &f.now)
	}
	if err != nil {
		f.now = vmSettings{}
		return f, fmt.Errorf("settings %s are lost, the defaults hold: %w", f.path, err)
	}
	return f, nil
}

func (f *settingsFile) get() vmSettings {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// set changes the settings, and returns when that is durable.
func (f *settingsFile) set(change func(*vmSettings)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.now
	change(&next)
	if next == f.now {
		return nil
	}
	if err := replaceJSON(f.path, next); err != nil {
		return fmt.Errorf("keep settings: %w", err)
	}
	f.now = next
	return nil
}

// replaceJSON replaces a file by value's JSON so that a crash leaves the old
// or the new one. Its directory is made if it is missing.
func replaceJSON(path string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	directory := filepath.Dir(path)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(directory, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(append(data, '\n'))
	err = errors.Join(err, temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return syncDirectory(directory)
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
