package rig

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// PeakMemory waits until a process has ended and returns its peak resident memory in bytes: VmHWM
// of Linux, which counts no other process. The kernel forgets the number when the process ends, so
// a peak in the last 5 ms may be missing.
func PeakMemory(p *Process) (int64, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var peak int64
	for {
		select {
		case <-p.Over():
			if peak == 0 {
				return 0, fmt.Errorf("measure the memory of %s: it ended too soon", p.Name)
			}
			return peak, nil
		case <-tick.C:
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
		if err != nil {
			continue // the process has ended or is about to
		}
		now, err := highWater(text)
		if err != nil {
			return 0, fmt.Errorf("measure the memory of %s: %w", p.Name, err)
		}
		peak = max(peak, now)
	}
}

// highWater returns VmHWM from a process's status in bytes, or 0 if it is missing, as for a process
// that has ended and was not waited for.
func highWater(status []byte) (int64, error) {
	lines := bufio.NewScanner(bytes.NewReader(status))
	for lines.Scan() {
		value, ok := strings.CutPrefix(lines.Text(), "VmHWM:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 10, 64)
		return kib << 10, err
	}
	return 0, lines.Err()
}

// tick is the unit of times in /proc. The kernel shows programs 100 ticks per second, whatever it
// counts itself (proc(5), USER_HZ).
const tick = time.Second / 100

// CPUTime returns the processor time that a process has used, in user mode and in the kernel.
func CPUTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read the processor time: %w", err)
	}
	// The second field is the name. It is in parentheses and may contain anything.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const user, system = 11, 12 // fields 14 and 15, without the first two
	if len(fields) <= system {
		return 0, fmt.Errorf("read the processor time: %q", text)
	}
	var sum time.Duration
	for _, field := range [][]byte{fields[user], fields[system]} {
		n, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read the processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// Settings has PostgreSQL settings for a rig with several stages at a time. They load
// pg_stat_statements, which counts nothing until [Stage.CountStatements].
var Settings = map[string]string{
	"max_connections": "300", "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track": "none",
}

// CountStatements makes PostgreSQL count the statements of connections to the stage's database that
// are opened after it.
func (s *Stage) CountStatements(ctx context.Context) error {
	for _, sql := range []string{
		"create extension if not exists pg_stat_statements",
		"alter database " + s.Name + " set pg_stat_statements.track = 'top'",
	} {
		if _, err := s.Rig.Admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("count statements (pg_stat_statements comes with PostgreSQL's contrib modules): %w", err)
		}
	}
	return nil
}

// Idle is what each worker used while it had nothing to do.
type Idle struct {
	CPU        float64 // percent of a core, of the worker that used most
	Statements float64 // per second and worker, including begin and commit
	Most       string  // the five most frequent statements
}

// WatchIdle measures the workers for the given time. Call [Stage.CountStatements] before the
// workers start.
func (s *Stage) WatchIdle(ctx context.Context, long time.Duration) (idle Idle, err error) {
	const ran = `with ran as (
			select regexp_replace(trim(s.query), '\s+', ' ', 'g') as query, sum(s.calls) as calls
			from pg_stat_statements s join pg_database d on d.oid = s.dbid where d.datname = $1 group by 1),
		most as (select * from ran order by calls desc limit 5)
		select coalesce((select sum(calls) from ran), 0)::int, coalesce(
			(select string_agg(calls || ' × ' || left(query, 40), ', ' order by calls desc) from most), 'nothing')`
	before, err := s.used()
	if err != nil {
		return idle, err
	}
	began := time.Now()
	_, err = s.Rig.Admin.Exec(ctx, "select pg_stat_statements_reset(0, oid, 0) from pg_database where datname = $1", s.Name)
	if err != nil {
		return idle, fmt.Errorf("count statements anew: %w", err)
	}
	if err := Sleep(ctx, long); err != nil {
		return idle, err
	}
	var statements int
	if err := s.Rig.Admin.QueryRow(ctx, ran, s.Name).Scan(&statements, &idle.Most); err != nil {
		return idle, fmt.Errorf("count statements: %w", err)
	}
	after, err := s.used()
	if err != nil {
		return idle, err
	}
	seconds := time.Since(began).Seconds()
	for i := range after {
		idle.CPU = max(idle.CPU, 100*(after[i]-before[i]).Seconds()/seconds)
	}
	idle.Statements = float64(statements) / seconds / float64(len(after))
	return idle, nil
}

// used returns the processor time of each worker. All workers must be alive.
func (s *Stage) used() ([]time.Duration, error) {
	var used []time.Duration
	for _, p := range s.Workers {
		select {
		case <-p.Over():
			return nil, fmt.Errorf("%s ended too soon (%v): %s", p.Name, p.Err(), Tail(p.Log))
		default:
		}
		cpu, err := CPUTime(p.PID())
		if err != nil {
			return nil, err
		}
		used = append(used, cpu)
	}
	return used, nil
}
