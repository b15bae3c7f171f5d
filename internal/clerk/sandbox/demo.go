package sandbox

// Demo returns the Config for examples/hires.csv and examples/messy.csv. Of the people in each
// file, two are users and two have a pending invitation. The block list contains one person of
// messy.csv, whose invitation is rejected.
func Demo() Config {
	return Config{
		Users: []string{
			"priya.raman@example.com",
			"lukas.brandt@example.com",
			"office@example.org",
		},
		Invitations: []string{
			"tomas.novak@example.com",
			"mei.tanaka@example.org",
			"former.candidate@example.org",
		},
		Blocked: []string{"contractor@example.org"},
	}
}
