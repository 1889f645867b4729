package fusefs

import (
	"container/list"
	"sync"
)

// maxIdle is how many nodes that nobody has open may keep descriptors, three
// each at most. Opening one by handle costs microseconds, so the bound is low.
const maxIdle = 512

// triesPerAdd bounds how long adding a node to the idle list takes.
const triesPerAdd = 8

// idleList closes the descriptors of nodes that are not in use, beyond a
// bound, the least recently used first (with a second chance for those that
// were used since they were put on the list).
type idleList struct {
	mu    sync.Mutex
	limit int
	order *list.List // of *node, oldest first
	at    map[*node]*list.Element
}

func newIdleList(limit int) *idleList {
	return &idleList{limit: limit, order: list.New(), at: make(map[*node]*list.Element)}
}

// add puts the node, which has opened a descriptor or was closed by its last
// user, on the list, and closes others' descriptors if the list is too long.
func (l *idleList) add(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.at[n]; !ok {
		l.at[n] = l.order.PushBack(n)
	}
	for tries := triesPerAdd; tries > 0 && l.order.Len() > l.limit; tries-- {
		front := l.order.Front()
		oldest := front.Value.(*node)
		switch {
		case oldest == n || oldest.recent.Swap(false):
			l.order.MoveToBack(front)
		case oldest.opens.Load() > 0:
			l.remove(oldest) // comes back when it is closed
		case oldest.closeIdle():
			l.remove(oldest)
		default:
			l.order.MoveToBack(front)
		}
	}
}

// forget takes the node off the list.
func (l *idleList) forget(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(n)
}

func (l *idleList) remove(n *node) {
	if e, ok := l.at[n]; ok {
		l.order.Remove(e)
		delete(l.at, n)
	}
}

// closeIdle closes what can be opened again, unless the node is in use. A node
// that somebody has open stays as it is: its data may not be reachable a second
// time (a file without rights that its creator still writes to).
func (n *node) closeIdle() bool {
	if !n.gate.TryLock() {
		return false
	}
	defer n.gate.Unlock()
	if n.opens.Load() > 0 {
		return false
	}
	closeFD(int(n.data.Swap(-1)))
	n.closeDirect()
	if !n.held.Load() {
		closeFD(int(n.path.Swap(-1)))
	}
	return true
}
