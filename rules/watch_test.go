package rules

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// folder is a ruleset's folder, in which a test writes.
type folder struct {
	t   *testing.T
	dir string
}

func (f folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f folder) write(name, content string) {
	f.t.Helper()
	f.must(os.MkdirAll(filepath.Dir(f.path(name)), 0o755))
	f.must(os.WriteFile(f.path(name), []byte(content), 0o644))
}

// rule writes the one file of rules with a rule of this id.
func (f folder) rule(id string) {
	f.t.Helper()
	f.write("rules/a.yaml", ruleOf(id))
}

func ruleOf(id string) string {
	return "rules:\n  - {id: " + id + ", verdict: hold, when: 'amount > CNY(10)'}\n"
}

// rename puts new content in place of the old as careful editors do.
func (f folder) rename(name, content string) {
	f.t.Helper()
	f.write(name+".new~", content)
	f.must(os.Rename(f.path(name+".new~"), f.path(name)))
}

// publish makes a folder of the cluster's, as kubelet does, and swaps ..data to it.
func (f folder) publish(version, id string) {
	f.t.Helper()
	f.write("..v"+version+"/rules/a.yaml", ruleOf(id))
	f.must(os.Symlink("..v"+version, f.path("..data_tmp")))
	f.must(os.Rename(f.path("..data_tmp"), f.path("..data")))
}

const (
	poll   = 2 * time.Second
	quiet  = 500 * time.Millisecond
	atMost = 20 * time.Second
)

// watched is a folder with a ruleset "old" that is watched, in the time of a bubble.
func watched(t *testing.T, prepare func(folder)) (f folder, loads func() []string) {
	t.Helper()
	f = folder{t, filepath.Join(t.TempDir(), "ruleset")}
	prepare(f)
	w := NewWatcher(f.dir, WatchTimes{Poll: poll, Quiet: quiet, AtMost: atMost})
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		synctest.Wait()
	})
	var all []string
	go w.Watch(ctx, func(context.Context) bool {
		set, err := LoadSteady(f.dir)
		if err != nil {
			all = append(all, "bad")
		} else {
			all = append(all, set.RuleIDs()[0])
		}
		return true
	})
	return f, func() []string {
		synctest.Wait()
		taken := all
		all = nil
		return taken
	}
}

// However a folder is changed, the ruleset that it holds in the end is loaded once, soon after it has come to rest.
func TestHoweverAFolderChangesItIsLoadedOnceItRests(t *testing.T) {
	old := func(f folder) { f.rule("old") }
	for _, tc := range []struct {
		name    string
		prepare func(folder)
		change  func(folder) // may take time
		want    []string
	}{
		{"written in place", old, func(f folder) { f.rule("new-rule") }, []string{"new-rule"}},
		{"written in place, of the same length, by another time", old, func(f folder) {
			f.rule("new")
			f.must(os.Chtimes(f.path("rules/a.yaml"), time.Unix(1, 0), time.Unix(1, 0)))
		}, []string{"new"}},
		{"renamed over", old, func(f folder) { f.rename("rules/a.yaml", ruleOf("new")) }, []string{"new"}},
		{"renamed over, of the same length and time", old, func(f folder) {
			info, err := os.Stat(f.path("rules/a.yaml"))
			f.must(err)
			f.write("rules/a.new~", ruleOf("new"))
			f.must(os.Chtimes(f.path("rules/a.new~"), info.ModTime(), info.ModTime()))
			f.must(os.Rename(f.path("rules/a.new~"), f.path("rules/a.yaml")))
		}, []string{"new"}},
		{"of the same length and time, in the same file", old, func(f folder) {
			info, err := os.Stat(f.path("rules/a.yaml"))
			f.must(err)
			f.rule("new")
			f.must(os.Chtimes(f.path("rules/a.yaml"), info.ModTime(), info.ModTime()))
			time.Sleep(readEvery)
		}, []string{"new"}},
		{"links swapped as Kubernetes does", func(f folder) {
			f.must(os.MkdirAll(f.dir, 0o755))
			f.publish("1", "old")
			f.must(os.Symlink("..data/rules", f.path("rules")))
		}, func(f folder) { f.publish("2", "new") }, []string{"new"}},
		{"the folder itself is a link that is swapped", func(f folder) {
			folder{f.t, f.dir + ".1"}.rule("old")
			f.must(os.Symlink(f.dir+".1", f.dir))
		}, func(f folder) {
			folder{f.t, f.dir + ".2"}.rule("new")
			f.must(os.Symlink(f.dir+".2", f.dir+".tmp"))
			f.must(os.Rename(f.dir+".tmp", f.dir))
		}, []string{"new"}},
		{"half-written for a while", old, func(f folder) {
			whole := ruleOf("new")
			for n := range 10 {
				f.write("rules/a.yaml", whole[:len(whole)*(n+1)/10])
				time.Sleep(quiet / 2)
			}
		}, []string{"new"}},
		{"several files, one after the other", old, func(f folder) {
			f.write("rules/b.yaml", ruleOf("old")) // half of it does not compile
			time.Sleep(quiet / 2)
			f.rule("new")
		}, []string{"new"}},
		{"deleted and made again", old, func(f folder) {
			f.must(os.RemoveAll(f.dir))
			time.Sleep(3 * poll)
			f.rule("new")
		}, []string{"bad", "new"}},
		{"deleted and made again within a moment", old, func(f folder) {
			f.must(os.RemoveAll(f.dir))
			f.rule("new")
		}, []string{"new"}},
		{"a bad file, then a good one", old, func(f folder) {
			f.write("rules/a.yaml", "rules: [")
			time.Sleep(3 * poll)
			f.rule("new")
		}, []string{"bad", "new"}},
		{"a mistake that is only a file too many", old, func(f folder) {
			f.write("rules/b.yml", "")
			time.Sleep(3 * poll)
			f.must(os.Remove(f.path("rules/b.yml")))
		}, []string{"bad", "old"}},
		{"a folder too many", old, func(f folder) {
			f.must(os.Mkdir(f.path("rules/more"), 0o755))
			time.Sleep(3 * poll)
			f.must(os.Remove(f.path("rules/more")))
		}, []string{"bad", "old"}},
		{"there and back", old, func(f folder) {
			f.rule("something-else")
			time.Sleep(quiet / 2)
			f.rule("old")
		}, nil},
		{"touched", old, func(f folder) { f.must(os.Chtimes(f.path("rules/a.yaml"), time.Unix(1, 0), time.Unix(1, 0))) }, nil},
		{"tests, texts and files of editors", old, func(f folder) {
			for _, name := range []string{"rules/a_test.yaml", "README.md", "rules/.a.yaml.swp", "rules/a.yaml~", ".git/index", "rules/.#a.yaml"} {
				f.write(name, "anything")
			}
		}, nil},
		{"not at all", old, func(folder) { time.Sleep(3 * readEvery) }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, loads := watched(t, tc.prepare)
				tc.change(f)
				time.Sleep(poll + 2*quiet)
				got := loads()
				if len(got) != len(tc.want) {
					t.Fatalf("loaded are %q, want %q", got, tc.want)
				}
				for i := range got {
					if got[i] != tc.want[i] {
						t.Errorf("loaded are %q, want %q", got, tc.want)
					}
				}
			})
		})
	}
}

// A folder in which somebody writes without end is loaded all the same, after a bound.
func TestAFolderThatNeverRestsIsLoadedAfterABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, loads := watched(t, func(f folder) { f.rule("old") })
		began := time.Now()
		write := func(id string) {
			f.rule(id)
			time.Sleep(quiet / 2)
		}
		for time.Since(began) < atMost-quiet {
			write("one")
			write("other")
		}
		if got := loads(); len(got) > 0 {
			t.Fatalf("%q were loaded while files are being written", got)
		}
		for time.Since(began) < atMost+poll+quiet {
			write("one")
			write("other")
		}
		if got := loads(); len(got) != 1 {
			t.Errorf("loaded after the bound: %q", got)
		}
	})
}

// What could not be done for a reason outside of the folder is done again, and only then.
func TestAChangeIsToldUntilItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := folder{t, t.TempDir()}
		f.rule("old")
		w := NewWatcher(f.dir, WatchTimes{Poll: poll, Quiet: quiet, AtMost: atMost})
		f.rule("new-rule") // between the first look and the watch
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		calls := 0
		go w.Watch(ctx, func(context.Context) bool {
			calls++
			return calls == 3
		})
		time.Sleep(10 * poll)
		synctest.Wait()
		if calls != 3 {
			t.Errorf("called %d times", calls)
		}
		cancel()
		synctest.Wait()
	})
}

// A link that is swapped while a ruleset is read mixes no two rulesets.
func TestALinkThatIsSwappedMixesNoTwoRulesets(t *testing.T) {
	f := folder{t, t.TempDir()}
	for _, version := range []string{"1", "2"} {
		for _, name := range []string{"a", "b"} {
			f.write("..v"+version+"/rules/"+name+".yaml", ruleOf(name+version))
		}
		if version == "1" {
			f.must(os.Symlink("..v1", f.path("..data")))
			f.must(os.Symlink("..data/rules", f.path("rules")))
		}
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Symlink("..v"+string("12"[n%2]), f.path("..tmp"))
			_ = os.Rename(f.path("..tmp"), f.path("..data"))
		}
	}()
	seen := map[string]int{}
	for range 300 {
		set, err := Load(f.dir)
		if err != nil {
			t.Fatal(err)
		}
		seen[set.RuleIDs()[0]+set.RuleIDs()[1]]++
	}
	close(stop)
	<-done
	if seen["a1b1"]+seen["a2b2"] != 300 {
		t.Errorf("loaded were %v", seen)
	}
}
