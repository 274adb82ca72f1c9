// Package intake manages the submissions that wait to be taken in. [FairShare] takes in a
// few of every service while one has very many, [Submissions] counts and removes them in
// their stream, and [Limit] bounds how many of one service may wait.
package intake
