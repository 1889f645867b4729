package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how far something long is: a bar on a terminal, nothing
// elsewhere. It may be used concurrently.
type progress struct {
	mu    sync.Mutex
	out   io.Writer
	bars  *mpb.Progress
	bar   *mpb.Bar
	title string
	said  string
}

func newProgress(out *os.File) *progress {
	p := &progress{out: out}
	if term.IsTerminal(int(out.Fd())) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40), mpb.WithRefreshRate(150*time.Millisecond))
	}
	return p
}

// show sets title and amount; a total of 0 is not known.
func (p *progress) show(title string, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		return
	}
	if p.bar == nil || title != p.title {
		if p.bar != nil {
			p.bar.Abort(false)
		}
		p.title = title
		p.bar = p.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name(title+"  ")),
			mpb.AppendDecorators(
				decor.CountersKibiByte("% .1f / % .1f"), decor.Name("  "),
				decor.AverageSpeed(decor.SizeB1024(0), "% .1f"), decor.Name("  "),
				decor.AverageETA(decor.ET_STYLE_MMSS)))
	}
	p.bar.SetTotal(total, false)
	p.bar.SetCurrent(done)
}

// note says something once.
func (p *progress) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if text == p.said {
		return
	}
	p.said = text
	fmt.Fprintln(p.out, text)
}

// end takes the bar away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bars == nil {
		return
	}
	if p.bar != nil {
		p.bar.Abort(false)
	}
	p.bars.Wait()
	p.bars = nil
}
