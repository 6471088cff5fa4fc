"""Background jobs.

For readers new to Celery: it runs functions ("tasks") in other processes ("workers"). Somebody
puts a message with a task's name and arguments into a queue in Redis (the "broker"); a worker takes it out, runs the
function, and then confirms the message.

In HIVE, a row in the `jobs` table comes first, written in the transaction that needs the job. The relay
(`app/events/relay.py`) reads such rows and sends the messages. Redis may lose them all: a job whose row isn't marked
done is sent again. That is why each job may arrive twice, and why `app/services/job_service.py` does it once.

- `celery_app.py` configures Celery and says what runs on a schedule.
- `tasks.py` has the tasks: thin shells around services.
- `process.py` has what a worker process sets up once: event loop, database, sign of life.
- `carrier.py` is the sending side, for the relay.
"""
