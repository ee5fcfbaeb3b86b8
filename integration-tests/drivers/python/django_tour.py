"""Django on its PostgreSQL backend: migrations, transactions, savepoints, server-side cursors, introspection."""

import datetime
import decimal
import io
import sys
import uuid

import django
from django.conf import settings

from tour import DATABASE, HOST, PASSWORD, PORT, USER, in_threads, run, section, show

SERVER_SIDE_BINDING = "bind" in sys.argv[1:]

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql", "HOST": HOST, "PORT": PORT, "USER": USER, "PASSWORD": PASSWORD,
                           "NAME": DATABASE, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True,
                           "OPTIONS": {"server_side_binding": SERVER_SIDE_BINDING, "options": "-c lock_timeout=20000"}}},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "django.contrib.postgres"],
    TIME_ZONE="Europe/Vienna", USE_TZ=True, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", SECRET_KEY="tour",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
django.setup()

from django.contrib.auth.models import Group, User
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, connections, models, transaction
from django.db.models import Avg, Count, F, Q, Sum, Window
from django.db.models.functions import RowNumber, TruncMonth


class Album(models.Model):
    title = models.CharField(max_length=80, unique=True)
    released = models.DateField(null=True)
    made = models.DateTimeField(default=datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc))
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    ident = models.UUIDField(default=uuid.UUID(int=3))
    tags = ArrayField(models.TextField(), default=list)
    facts = models.JSONField(default=dict)
    cover = models.BinaryField(null=True)
    length = models.DurationField(null=True)

    class Meta:
        app_label = "tour"


class Track(models.Model):
    album = models.ForeignKey(Album, on_delete=models.CASCADE)
    number = models.PositiveIntegerField()

    class Meta:
        app_label = "tour"
        constraints = [models.UniqueConstraint(fields=["album", "number"], name="one_number", deferrable=models.Deferrable.DEFERRED)]


def failing(what, function):
    try:
        show(what, function())
    except DatabaseError as e:
        show(what, type(e).__name__, str(e).splitlines())


@section
def migrations():
    out = io.StringIO()
    call_command("migrate", stdout=out, verbosity=1, no_color=True)
    show(len(out.getvalue().splitlines()), out.getvalue().splitlines()[-3:])
    out = io.StringIO()
    call_command("showmigrations", stdout=out, no_color=True)
    show(out.getvalue().count("[X]"), out.getvalue().count("[ ]"))
    call_command("migrate", "auth", "0005", verbosity=0)
    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        editor.create_model(Album)
        editor.create_model(Track)
    out = io.StringIO()
    call_command("inspectdb", "tour_album", "tour_track", stdout=out)
    for line in out.getvalue().splitlines()[8:]:
        show(line)


@section
def models_and_queries():
    for n in range(20):
        a = Album.objects.create(title=f"a{n}", released=datetime.date(2020, 1 + n % 12, 1), price=decimal.Decimal(n), tags=["t", str(n)], facts={"n": n},
                                 cover=bytes([n]), length=datetime.timedelta(minutes=n))
        Track.objects.bulk_create([Track(album=a, number=k) for k in range(n % 5)])
    show(Album.objects.aggregate(Sum("price"), Avg("price")), Track.objects.values("album").annotate(n=Count("id")).order_by("album").count())
    for a in Album.objects.filter(facts__n__lt=3).order_by("id"):
        show(a.id, a.title, a.released, a.made, a.price, a.ident, a.tags, a.facts, bytes(a.cover), a.length)
    show(list(Album.objects.filter(tags__contains=["7"]).values_list("title", flat=True)))
    show(list(Album.objects.annotate(m=TruncMonth("released"), r=Window(RowNumber(), order_by="id")).filter(id__lt=4).order_by("id").values_list("m", "r")))
    show(Album.objects.filter(Q(title="a1") | Q(title="a2")).update(price=F("price") + 1), Album.objects.get(title="a2").price)
    show(Album.objects.get_or_create(title="a3")[1], Album.objects.update_or_create(title="new", defaults={"price": 5})[1])
    show([o.pk is not None for o in Album.objects.bulk_create([Album(title=f"b{i}") for i in range(700)])].count(True))
    show(Album.objects.bulk_create([Album(title="b1", price=7)], update_conflicts=True, unique_fields=["title"], update_fields=["price"])[0].price)
    show(sum(1 for _ in Album.objects.iterator(chunk_size=50)))
    it = Album.objects.order_by("id").iterator(chunk_size=10)
    show(next(it).title, next(it).title)
    it.close()
    with transaction.atomic():
        show(sum(a.id for a in Album.objects.filter(id__lt=100).iterator(chunk_size=7)))
    show(Album.objects.filter(title__icontains="B69").count(), Album.objects.filter(title__regex="^b1.$").count())
    show(Album.objects.filter(title__startswith="b").delete())
    show(Album.objects.filter(id=1).explain().splitlines()[0][:20])
    show(list(Album.objects.raw("SELECT id, title FROM tour_album WHERE title = %s", ["a4"])))
    u = User.objects.create_user("u", "u@example.org", "secret")
    u.groups.add(Group.objects.create(name="g"))
    show(u.check_password("secret"), list(u.groups.values_list("name", flat=True)), u.has_perm("auth.add_user"))


@section
def transactions():
    def twice():
        with transaction.atomic():
            Album.objects.create(title="a1")

    failing("unique", twice)
    with transaction.atomic():
        Album.objects.create(title="outer")
        try:
            with transaction.atomic():
                Album.objects.create(title="inner")
                Album.objects.create(title="a1")
        except IntegrityError as e:
            show(str(e).splitlines())
        sid = transaction.savepoint()
        Album.objects.create(title="rolled back")
        transaction.savepoint_rollback(sid)
        show(Album.objects.select_for_update().filter(title__in=["outer", "inner", "rolled back"]).count())
    show(list(Album.objects.filter(title__in=["outer", "inner", "rolled back"]).values_list("title", flat=True)))
    heard = []
    with transaction.atomic():
        transaction.on_commit(lambda: heard.append("committed"))
        transaction.set_rollback(True)
    show(heard)

    def deferred():
        with transaction.atomic():
            a = Album.objects.get(title="a1")
            Track.objects.create(album=a, number=99)
            Track.objects.create(album=a, number=99)

    failing("deferred", deferred)

    def broken():
        with transaction.atomic():
            try:
                Album.objects.create(title="a1")
            except IntegrityError:
                pass
            Album.objects.count()

    failing("broken block", broken)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::int, %s::text, %s::int[]", [1, "it's", [1, 2]])
        show(cursor.fetchall())
        cursor.execute("SHOW TimeZone")
        show(cursor.fetchall())
        failing("syntax", lambda: cursor.execute("SELEC 1"))
        show(connection.introspection.table_names(cursor))
        show(connection.introspection.get_constraints(cursor, "tour_track"))
    show(connection.is_usable(), connection.pg_version)


@section
def many_threads():
    def work(n):
        try:
            for turn in range(10):
                with transaction.atomic():
                    a = Album.objects.select_for_update().get(title="a7")
                    a.facts = {"n": a.facts["n"] + 1}
                    a.save()
                list(Album.objects.order_by("id").iterator(chunk_size=3))
            return "done"
        finally:
            connections.close_all()

    show(in_threads(6, work), Album.objects.get(title="a7").facts)
    call_command("flush", interactive=False, verbosity=0)
    show(User.objects.count())


if __name__ == "__main__":
    run()
