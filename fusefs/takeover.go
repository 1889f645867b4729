package fusefs

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"lifeboat/fusefs/handover"
)

// notifyResend is the kernel's FUSE_NOTIFY_RESEND: send again what has not been
// answered.
const notifyResend = 7

func (f *filter) inheritNodes() error {
	t, held := f.nodes, f.estate.Held
	t.number, t.fresh = f.estate.State.Number(), f.estate.State.Fresh()
	err := f.estate.State.Nodes(func(x handover.Node, record *handover.Record) error {
		n := inherited(&x, record)
		if fd, ok := held[n.id]; ok {
			delete(held, n.id)
			n.holdAgain(fd)
		} else if n.key.handle == "" {
			// Its filter died before the kernel was told of it.
			record.Clear()
			return nil
		}
		if t.byKey[n.key] != nil {
			return fmt.Errorf("two nodes of inode %d: %w", n.key.file.Inode, handover.ErrNotUnderstood)
		}
		t.byKey[n.key] = n
		t.slot(n.id).Store(n)
		return nil
	})
	if err != nil {
		return err
	}
	for slot := uint64(fuse.FUSE_ROOT_ID + 1); slot < t.fresh; slot++ {
		if t.slot(slot).Load() == nil {
			t.free = append(t.free, slot)
		}
	}
	for id, fd := range held {
		if id == handover.Passes {
			continue // whoever tracks takes them
		}
		closeFD(fd)
		if err := f.estate.Drop(id); err != nil {
			return err
		}
	}
	return nil
}

// inherited is the node that a record tells of.
func inherited(x *handover.Node, record *handover.Record) *node {
	found := &found{key: nodeKey{file: FileID{Device: x.Device, Inode: x.Inode}}}
	found.stat.Mode = x.Kind
	if len(x.Handle) > 0 {
		found.handle = unix.NewFileHandle(x.HandleType, x.Handle)
		found.key.handle = handleKey(found.handle)
	}
	n := newNode(found)
	n.id, n.lookups, n.record = x.ID, x.Lookups, record
	n.names.Store(x.Names)
	n.setid.Store(true) // a write looks, and then knows
	n.opens.Store(int64(x.Opens))
	switch {
	case x.Backing == 0:
	case x.Opens == 0: // its filter died before the answer; the kernel keeps a backing file in vain
		record.SetBacking(0)
	default:
		n.use, n.backing = usePassthrough, x.Backing
	}
	return n
}

// holdAgain takes over a descriptor that the keeper has, too.
func (n *node) holdAgain(fd int) {
	n.path.Store(int32(fd))
	n.held.Store(true)
	n.kept = true
	var s syscall.Stat_t
	n.removed.Store(syscall.Fstat(fd, &s) == nil && s.Nlink == 0)
}

// shared is the node as the next filter is to know it.
func (n *node) shared() *handover.Node {
	x := &handover.Node{ID: n.id, Device: n.key.file.Device, Inode: n.key.file.Inode, Kind: n.kind, Lookups: n.lookups}
	if n.key.handle != "" {
		x.HandleType, x.Handle = n.handle.Type(), n.handle.Bytes()
	}
	return x
}

// keep has the keeper hold an inode that fd holds, since there is, or soon will
// be, no other way to it. opener is held.
func (f *filter) keep(n *node, fd int) {
	if f.estate == nil || n.kept {
		return
	}
	n.kept = true
	if err := f.estate.Hold(n.id, fd); err != nil {
		f.log.Warn("the keeper does not hold a file: it ends if the filter is killed", "inode", n.key.file.Inode, "error", err)
	}
}

// keepVictim does so before an inode loses a name, which may be its last.
func (f *filter) keepVictim(x *found) {
	if f.estate == nil || x == nil {
		return
	}
	n := f.nodes.known(x.key)
	if n == nil {
		return
	}
	n.gate.RLock()
	defer n.gate.RUnlock()
	n.opener.Lock()
	defer n.opener.Unlock()
	if !n.gone {
		f.keep(n, x.fd)
	}
}

// letGo ends it for a node that the kernel has forgotten.
func (f *filter) letGo(n *node) {
	n.opener.Lock()
	defer n.opener.Unlock()
	if !n.kept {
		return
	}
	n.kept = false
	if err := f.estate.Drop(n.id); err != nil {
		f.log.Debug("the keeper is not told of a file that is not needed any more", "error", err)
	}
}

// takeOver serves the mount that a keeper gave.
func (f *filter) takeOver() (*Mount, error) {
	point := f.estate.State.Point()
	unix.Umask(0)
	p := f.prepared
	m, err := f.start(p.connection, p.buffers, point, func(c *connection) error { return c.resume(p.reply) })
	if err != nil {
		err = fmt.Errorf("fusefs: take over %s on %s: %w", f.options.Folder, point, err)
		f.estate.Refuse(err)
		return nil, err
	}
	if f.estate.Kept() {
		go m.heed()
	}
	return m, nil
}

// resume goes on where the filter before was: the kernel sees one conversation.
// Nobody else may be reading from the device any more.
func (c *connection) resume(reply []byte) error {
	state := c.filter.estate.State
	if len(state.Reply()) > 0 {
		if err := agreed(state, reply); err != nil {
			return err
		}
		return c.resend()
	}
	if err := state.SetReply(reply); err != nil {
		return err
	}
	if _, err := unix.Write(c.device, reply); err != nil {
		return fmt.Errorf("answer the kernel's INIT: %w", err)
	}
	return nil
}

// resend has the kernel send again what the filter before did not answer.
func (c *connection) resend() error {
	header := fuse.OutHeader{Length: uint32(outHeaderSize), Status: notifyResend}
	message := unsafe.Slice((*byte)(unsafe.Pointer(&header)), outHeaderSize)
	if _, err := unix.Write(c.device, message); err != nil {
		return fmt.Errorf("ask the kernel to send again what was not answered: %w", err)
	}
	return nil
}

// handleKey is the part of a node's key that tells file handles apart.
func handleKey(h unix.FileHandle) string {
	b := binary.LittleEndian.AppendUint32(nil, uint32(h.Type()))
	return string(append(b, h.Bytes()...))
}
