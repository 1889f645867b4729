package keeper

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// spare asks the kernel not to kill this process when memory runs out, and
// returns how it was before. The keeper has next to none, and when it dies at
// once with a filter, nothing is left; the filter is what comes again.
func spare(log *slog.Logger) (before string) {
	const file = "/proc/self/oom_score_adj"
	score, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte("-1000"), 0)
	}
	if err != nil {
		log.Debug("the kernel may kill the keeper when memory runs out", "error", err)
		return ""
	}
	return strings.TrimSpace(string(score))
}

// setScore gives a filter back what its keeper had.
func (s *starter) setScore(pid int) {
	if s.score == "" {
		return
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(s.score), 0); err != nil {
		s.config.Logger.Debug("the filter keeps the keeper's OOM score", "error", err)
	}
}
