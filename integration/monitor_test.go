package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// monitor is the path of the socket on which QEMU tells of the machine.
func (m *machine) monitor() string { return filepath.Join(m.site.dir, "qmp") }

// events is what QEMU tells of a machine, in its protocol QMP.
type events struct {
	connection net.Conn
	lines      *bufio.Scanner
}

// message is a line of the protocol: an answer, or an event.
type message struct {
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
	Return *struct {
		Status string `json:"status"`
	} `json:"return"`
	Error json.RawMessage `json:"error"`
}

// watch has QEMU tell of what happens to the machine from now on.
func (m *machine) watch(t *testing.T) *events {
	t.Helper()
	connection, err := net.Dial("unix", m.monitor())
	must(t, err)
	t.Cleanup(func() { _ = connection.Close() }) // QEMU may be dead
	e := &events{connection: connection, lines: bufio.NewScanner(connection)}
	e.next(t) // the greeting
	e.ask(t, "qmp_capabilities")
	return e
}

// ask executes a command that takes no arguments, and fails the test if the
// machine was stopped, or an operation on its disk failed, before the answer.
func (e *events) ask(t *testing.T, command string) (answer message) {
	t.Helper()
	_, err := fmt.Fprintf(e.connection, "{\"execute\": %q}\n", command)
	must(t, err)
	for {
		switch answer = e.next(t); {
		case answer.Event == "STOP", answer.Event == "BLOCK_IO_ERROR", answer.Event == "BLOCK_JOB_ERROR":
			t.Fatalf("QEMU: %s %s", answer.Event, answer.Data)
		case answer.Error != nil:
			t.Fatalf("QEMU refuses %s: %s", command, answer.Error)
		case answer.Return != nil:
			return answer
		}
	}
}

func (e *events) next(t *testing.T) (m message) {
	t.Helper()
	must(t, e.connection.SetReadDeadline(time.Now().Add(commandWithin)))
	if !e.lines.Scan() {
		t.Fatalf("QEMU says nothing more: %v", e.lines.Err())
	}
	if err := json.Unmarshal(e.lines.Bytes(), &m); err != nil {
		t.Fatalf("QEMU said %s: %v", e.lines.Bytes(), err)
	}
	return m
}

// runs reads all events until now, and fails the test unless the machine runs.
func (e *events) runs(t *testing.T) {
	t.Helper()
	if answer := e.ask(t, "query-status"); answer.Return.Status != "running" {
		t.Errorf("the machine is %s", answer.Return.Status)
	}
}
