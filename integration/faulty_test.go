package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// setFault chooses what is wrong with the filters of a faulty program that are
// started from now on.
func (s *site) setFault(t *testing.T, fault string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(s.dir, "run", "fault"), []byte(fault), 0o600))
}

// The faults are put into the product's own source.
const (
	faultFunction = `package %s

import (
	"os"
	"path/filepath"
	"time"
)

func hasFault(fault string) bool {
	if os.Getenv("LIFEBOAT_KEEPER_FD") != "" {
		_ = os.Setenv("LIFEBOAT_TEST_FILTER", "1") // the other is taken away
	}
	if os.Getenv("LIFEBOAT_TEST_FILTER") == "" {
		return false
	}
	chosen, _ := os.ReadFile(filepath.Join(os.Getenv("LIFEBOAT_RUNTIME_DIR"), "fault"))
	return string(chosen) == fault
}

const aMoment = time.Second

func endSoon() {
	time.Sleep(aMoment)
	os.Exit(9)
}
`
	faultAtStart = `
func init() {
	if hasFault("crash") || os.Getenv("LIFEBOAT_ORPHAN_FD") != "" && hasFault("no keeper") {
		os.Exit(9)
	}
	for hasFault("hang") {
		time.Sleep(aMoment)
	}
}
`
	faultVersion = `
var version = func() uint32 {
	if hasFault("version") {
		return 99
	}
	return %s
}()
`
	faultWhenToldTo = `
	if hasFault("late") {
		os.Exit(9)
	}
	if hasFault("soon") {
		go endSoon()
	}
	if hasFault("stop") {
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
	}
`
)

// faultyProgram is the product with what setFault needs, built when it is needed
// first.
func faultyProgram(t *testing.T) string {
	t.Helper()
	program, err := buildFaulty()
	must(t, err)
	return program
}

var buildFaulty = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(plain)
	overlay := map[string]string{}
	var errs []error
	put := func(name, text string) {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "-"))
		errs = append(errs, os.WriteFile(to, []byte(text), 0o600))
		overlay[filepath.Join(root, name)] = to
	}
	source := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		errs = append(errs, err)
		return string(text)
	}
	put("cmd/lifeboat/fault.go", fmt.Sprintf(faultFunction, "main")+faultAtStart)

	before, after, ok := strings.Cut(source("fusefs/handover/state.go"), "\tversion = ")
	number, after, ok2 := strings.Cut(after, "\n")
	put("fusefs/handover/state.go", before+after)
	put("fusefs/handover/fault.go", fmt.Sprintf(faultFunction, "handover")+fmt.Sprintf(faultVersion, number))

	const beginning = "func (f *filter) takeOver() (*Mount, error) {\n"
	before, after, ok3 := strings.Cut(source("fusefs/takeover.go"), beginning)
	put("fusefs/takeover.go", strings.Replace(before, "import (", "import (\n\t\"os\"\n", 1)+beginning+faultWhenToldTo+after)
	put("fusefs/fault.go", fmt.Sprintf(faultFunction, "fusefs"))
	if !ok || !ok2 || !ok3 {
		errs = append(errs, errors.New("the source is not as the faults need it"))
	}
	list, program := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "faulty")
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err := errors.Join(append(errs, err, os.WriteFile(list, text, 0o600))...); err != nil {
		return "", fmt.Errorf("make a faulty program: %w", err)
	}
	build := exec.Command("go", "build", "-overlay", list, "-o", program, "lifeboat/cmd/lifeboat")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build a faulty program: %w: %s", err, out)
	}
	return program, nil
})
