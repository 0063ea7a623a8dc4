// Package talk is the language of two ends that copy files between them: the messages, their bytes, which of them may come
// when, which names they may hold, and where a copy lands.
//
// It decides and does nothing else: no file, no clock, no goroutine. It never holds more than a frame, the pending files of
// one window and a few counters, whatever the other end says.
//
// Invariants: no message has a path that leads anywhere: what is copied is named by single names, folder by folder, so
// that there is no name by which a sender reaches out of the folder that its receiver opened; a receiver takes at its top
// only the names that it asked for.
package talk
