"""What people who look at the daemon are shown: the loop hands it over, others read it.

Nothing is asked of the loop but through Requests, and nothing waits for anybody: what is handed
over is replaced as a whole and never changed, so that a thread that reads needs no lock.
"""
