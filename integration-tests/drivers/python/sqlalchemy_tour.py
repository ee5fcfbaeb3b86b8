"""SQLAlchemy over psycopg and over asyncpg: reflection, the ORM, savepoints, streaming, isolation levels."""

import asyncio
import datetime
import decimal
import enum
import sys
import uuid

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Integer, String, Text, func, select, text
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, selectinload

from tour import DATABASE, HOST, PASSWORD, PORT, USER, in_threads, run, section, show


class Colour(enum.Enum):
    red = 1
    green = 2


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    colour: Mapped[Colour] = mapped_column(sa.Enum(Colour), default=Colour.red)
    profile: Mapped[dict] = mapped_column(pg.JSONB, default=dict)
    tags: Mapped[list] = mapped_column(pg.ARRAY(Text), default=list)
    token: Mapped[uuid.UUID] = mapped_column(pg.UUID(as_uuid=True), default=lambda: uuid.UUID(int=9))
    born: Mapped[datetime.datetime] = mapped_column(sa.DateTime(timezone=True), nullable=True)
    orders: Mapped[list["Order"]] = relationship(back_populates="customer", cascade="all, delete-orphan")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(sa.BigInteger, sa.Identity(), primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"), index=True)
    amount: Mapped[decimal.Decimal] = mapped_column(sa.Numeric(12, 2))
    customer: Mapped[Customer] = relationship(back_populates="orders")


def url(driver):
    return sa.URL.create(f"postgresql+{driver}", USER, PASSWORD, HOST, PORT, DATABASE)


def failing(what, function):
    try:
        show(what, function())
    except sa.exc.DBAPIError as e:
        show(what, type(e).__name__, type(e.orig).__name__, str(e.orig).splitlines())
    except Exception as e:
        show(what, type(e).__name__, e)


@section
def synchronous():
    engine = sa.create_engine(url("psycopg"), pool_size=3, max_overflow=2, connect_args={"options": "-c lock_timeout=20s"})
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as s:
        for n in range(30):
            s.add(Customer(name=f"c{n}", colour=Colour.green if n % 2 else Colour.red, profile={"n": n}, tags=["a", f"t{n}"],
                           orders=[Order(amount=decimal.Decimal(n) + decimal.Decimal("0.25")) for _ in range(n % 4)]))
        s.commit()
        show(s.scalar(select(func.count()).select_from(Order)), s.scalar(select(func.sum(Order.amount))))
        for c in s.scalars(select(Customer).options(selectinload(Customer.orders)).where(Customer.profile["n"].as_integer() < 4).order_by(Customer.id)):
            show(c.id, c.name, c.colour, c.profile, c.tags, c.token, c.born, [str(o.amount) for o in c.orders])
        c = s.get(Customer, 4)
        c.name = "renamed"
        c.orders.clear()
        s.commit()
        show(s.scalar(select(func.count()).select_from(Order).where(Order.customer_id == 4)))
        try:
            with s.begin_nested():
                s.add(Customer(name="c5"))
                s.flush()
        except sa.exc.IntegrityError as e:
            show(type(e.orig).__name__, str(e.orig).splitlines())
        s.add(Customer(name="after the savepoint"))
        s.commit()
        rows = s.execute(pg.insert(Customer).values([dict(name="c5", tags=["new"], profile={}, token=uuid.UUID(int=1), colour=Colour.red)])
                         .on_conflict_do_update(index_elements=["name"], set_={"tags": ["updated"]}).returning(Customer.id, Customer.tags)).all()
        show(rows)
        s.rollback()
        big = s.execute(sa.insert(Order).returning(Order.id, sort_by_parameter_order=True), [dict(customer_id=1, amount=i) for i in range(2500)]).all()
        show(len(big))
        s.commit()
    with engine.connect() as c:
        result = c.execution_options(stream_results=True, yield_per=100).execute(select(Order.id, Order.amount).order_by(Order.id))
        show(sum(r.amount for r in result))
        c.rollback()
        for level in "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT":
            with engine.connect().execution_options(isolation_level=level) as k:
                show(level, k.scalar(text("SHOW transaction_isolation")), k.get_isolation_level())
        failing("division", lambda: c.execute(text("SELECT 1/0")))
        c.rollback()
        with engine.connect() as k:
            failing("missing", lambda: k.execute(text("SELECT * FROM not_there")))
        show(c.execute(text("SELECT CAST(:a AS int) + CAST(:b AS int)"), dict(a=1, b=2)).scalar())
    inspector = sa.inspect(engine)
    for table in sorted(inspector.get_table_names()):
        show(table, [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)])
        show(inspector.get_pk_constraint(table), inspector.get_foreign_keys(table), inspector.get_indexes(table), inspector.get_unique_constraints(table))
    show(inspector.get_enums(), inspector.get_sequence_names(), inspector.get_schema_names(), inspector.default_schema_name)
    meta = sa.MetaData()
    meta.reflect(engine)
    show(sorted(meta.tables), [str(c.type) for c in meta.tables["customer"].columns])

    def work(n):
        for turn in range(20):
            with Session(engine) as s:
                c = s.get(Customer, n + 1, with_for_update=True)
                c.profile = {"turns": turn}
                s.commit()
        return turn

    show(in_threads(8, work))
    # Two phases, by the driver.
    with engine.connect() as c:
        t = c.begin_twophase("tour_xid")
        c.execute(text("UPDATE customer SET name = 'two phases' WHERE id = 7"))
        t.prepare()
        t.commit()
    with engine.connect() as c:
        show(c.scalar(text("SELECT name FROM customer WHERE id = 7")))
    Base.metadata.drop_all(engine)
    show(sa.inspect(engine).get_table_names())
    engine.dispose()


@section
def asynchronous():
    async def body():
        engine = create_async_engine(url("asyncpg"), pool_size=4, connect_args={"server_settings": {"application_name": "orm"}})
        async with engine.begin() as c:
            await c.run_sync(Base.metadata.create_all)
            show(await c.scalar(text("SHOW application_name")))
        async with AsyncSession(engine) as s:
            s.add_all([Customer(name=f"a{n}", orders=[Order(amount=n)]) for n in range(20)])
            await s.commit()
            for c in await s.scalars(select(Customer).options(selectinload(Customer.orders)).where(Customer.id < 4).order_by(Customer.id)):
                show(c.id, c.name, c.colour, c.orders[0].amount)
            try:
                async with s.begin_nested():
                    s.add(Customer(name="a1"))
                    await s.flush()
            except sa.exc.IntegrityError as e:
                show(str(e.orig).splitlines())
            await s.commit()
            result = await s.stream(select(Order.id).order_by(Order.id).execution_options(yield_per=3))
            show([r.id async for r in result])
        async with engine.connect() as c:
            await c.execution_options(isolation_level="SERIALIZABLE")
            show(await c.scalar(text("SHOW transaction_isolation")))

        async def work(n):
            for turn in range(15):
                async with AsyncSession(engine) as s:
                    order = (await s.execute(select(Order).where(Order.customer_id == n + 1).with_for_update())).scalar_one()
                    order.amount += 1
                    await s.commit()

        await asyncio.gather(*(work(n) for n in range(12)))
        async with engine.connect() as c:
            show((await c.execute(select(Order.customer_id, Order.amount).order_by(Order.customer_id))).all())
        async with engine.begin() as c:
            # The columns change under statements that asyncpg and SQLAlchemy have cached.
            await c.execute(text("ALTER TABLE orders ADD COLUMN extra int"))
        async with engine.connect() as c:
            show((await c.execute(text("SELECT * FROM orders ORDER BY id LIMIT 1"))).all())
        async with engine.begin() as c:
            await c.run_sync(Base.metadata.drop_all)
        await engine.dispose()

    asyncio.run(asyncio.wait_for(body(), 60))


if __name__ == "__main__":
    run()
