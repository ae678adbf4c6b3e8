"""Extensions of Airflow itself: plugins, a policy and the executor."""
