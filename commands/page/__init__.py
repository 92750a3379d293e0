"""`fox1 inspect`: a page over a run, served to the browser of this machine alone.

server.py    HTTP on loopback: who may ask, and what every answer is sent with
serve.py     from runs to a page in the browser
answers.py   the questions that the page asks, answered by `pipeline.inspect`
losses.py    the losses of a training, by corpus
tuning/      what a tuning found
asked.py     values of a request, and answers as JSON
static/      the page: one HTML file, one style sheet, modules of JavaScript; no library, nothing to build

Pages that are sent as one file, with the same elements and charts:

frame.py     head, policy, tabs and search; frame.css, frame.js
report/      `fox1 report`; `fox1 tune show --html` is of tuning/ alone
"""
