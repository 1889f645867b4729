package replica

import (
	"container/list"
	"context"
	"sync"

	"lifeboat/replica/segment"
)

// indexCacheSize bounds the memory of the indexes that are kept, in bytes.
const indexCacheSize = 64 << 20

// indexCache keeps the indexes that were used last. Several that need the same
// one at once read it several times; that is rare and does no harm.
type indexCache struct {
	load func(context.Context, int32) (*segment.Index, error)

	mu      sync.Mutex
	entries map[int32]*list.Element
	order   *list.List // of *cachedIndex, the one used last in front
	size    int64
}

type cachedIndex struct {
	number int32
	index  *segment.Index
	size   int64
}

func newIndexCache(load func(context.Context, int32) (*segment.Index, error)) *indexCache {
	return &indexCache{load: load, entries: map[int32]*list.Element{}, order: list.New()}
}

func (c *indexCache) get(ctx context.Context, number int32) (*segment.Index, error) {
	c.mu.Lock()
	if e, ok := c.entries[number]; ok {
		c.order.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*cachedIndex).index, nil
	}
	c.mu.Unlock()
	x, err := c.load(ctx, number)
	if err != nil {
		return nil, err
	}
	c.keep(&cachedIndex{number: number, index: x, size: int64(len(x.Sums)*16 + len(x.Runs)*32 + len(x.Frames)*20)})
	return x, nil
}

func (c *indexCache) keep(entry *cachedIndex) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[entry.number]; ok {
		return
	}
	c.entries[entry.number] = c.order.PushFront(entry)
	c.size += entry.size
	for c.size > indexCacheSize && c.order.Len() > 1 {
		oldest := c.order.Remove(c.order.Back()).(*cachedIndex)
		delete(c.entries, oldest.number)
		c.size -= oldest.size
	}
}
